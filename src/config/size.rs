//! Sizes in a configuration that is printed: as they are, where a size that people read is rounded.

use bytesize::ByteSize;
use serde::Serializer;

const UNITS: [(u64, &str); 5] = [
    (1 << 50, "PiB"),
    (1 << 40, "TiB"),
    (1 << 30, "GiB"),
    (1 << 20, "MiB"),
    (1 << 10, "KiB"),
];

/// In the largest unit of which it is a whole number.
#[allow(clippy::trivially_copy_pass_by_ref)] // as serde hands it over
pub(super) fn exact<S: Serializer>(size: &ByteSize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&written(size.as_u64()))
}

fn written(bytes: u64) -> String {
    let fits = |(unit, _): &&(u64, &str)| bytes > 0 && bytes.is_multiple_of(*unit);
    let (unit, name) = UNITS.iter().find(fits).copied().unwrap_or((1, "B"));
    format!("{}{name}", bytes / unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_size_is_written_in_the_unit_that_fits() {
        for (bytes, text) in [
            (0, "0B"),
            (1, "1B"),
            (8 << 30, "8GiB"),
            (1500 << 20, "1500MiB"),
            ((1 << 30) + 1, "1073741825B"),
            (64 << 10, "64KiB"),
        ] {
            assert_eq!(written(bytes), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes in 0..(1_u64 << 52), shift in 0..40) {
            let bytes = bytes >> shift << shift;
            let read: ByteSize = written(bytes).parse().unwrap();
            prop_assert_eq!(read.as_u64(), bytes);
        }
    }
}
