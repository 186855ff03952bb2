//! The texts beside this file, which are reviewed when they change.

use std::path::Path;

/// Holds a text to the file of this name, or with `SNAPSHOTS=overwrite` renews the file.
pub fn is_as_reviewed(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/snapshots")
        .join(name);
    let text = text.replace(env!("CARGO_PKG_VERSION"), "[VERSION]");
    snapbox::Assert::new()
        .action_env("SNAPSHOTS")
        .eq(text, snapbox::Data::read_from(&file, None).raw());
}
