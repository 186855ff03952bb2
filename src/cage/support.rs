//! How much of Landlock this kernel has.

use landlock::{ABI, LandlockStatus, RestrictSelf};

/// The first version that governs truncating files: before it, files outside could be truncated (Linux 6.2).
const WHOLE: u32 = 3;

/// The first version that knows of TCP ports.
const FIRST_WITH_TCP: u32 = 4;

/// What this kernel's Landlock can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// The kernel was built without Landlock, or a sandbox does not let us ask.
    Absent,
    /// The kernel has Landlock, but it was not enabled at boot.
    Off,
    /// Programs can be caged, with this version of Landlock's interface.
    Version(u32),
}

impl Support {
    /// Asks the kernel.
    pub fn of_this_kernel() -> Self {
        // Without a flag to set, this applies nothing: it only asks.
        let asked = RestrictSelf::default().no_new_privs(false).apply();
        match asked.map(|answer| answer.landlock) {
            Ok(LandlockStatus::Available {
                effective_abi,
                kernel_abi,
            }) => Self::Version(version(effective_abi, kernel_abi)),
            Ok(LandlockStatus::NotEnabled) => Self::Off,
            Ok(LandlockStatus::NotImplemented) | Err(_) => Self::Absent,
        }
    }

    /// Whether programs can be caged here.
    pub const fn cages(self) -> bool {
        matches!(self, Self::Version(_))
    }

    /// Whether it keeps programs from TCP ports (Linux 6.7).
    pub const fn governs_tcp(self) -> bool {
        matches!(self, Self::Version(FIRST_WITH_TCP..))
    }

    /// What is missing and what follows from that, in a sentence; `None` if nothing is missing.
    pub fn lack(self) -> Option<String> {
        const UNCAGED: &str = "so the devcontainer CLI runs with all of your access to this server's files, \
             which a malicious feature may abuse";
        match self {
            Self::Absent => Some(format!("this kernel has no Landlock, {UNCAGED}")),
            Self::Off => Some(format!("Landlock is disabled here, {UNCAGED}")),
            Self::Version(version) if version < WHOLE => Some(format!(
                "this kernel has version {version} of Landlock, which cannot prevent the devcontainer CLI \
                 from truncating this server's files"
            )),
            Self::Version(_) => None,
        }
    }

    /// What to do about what [`Self::lack`] says; `None` if nothing is missing.
    pub const fn remedy(self) -> Option<&'static str> {
        match self {
            Self::Absent => Some(
                "run Linux 5.13 or newer, built with CONFIG_SECURITY_LANDLOCK as distributions' \
                 kernels are; in a container, its seccomp profile must allow landlock_restrict_self",
            ),
            Self::Off => Some(
                "add `landlock` to the list in the kernel's `lsm=` parameter and reboot: \
                 `cat /sys/kernel/security/lsm` shows the list in force",
            ),
            Self::Version(version) if version < WHOLE => Some("run Linux 6.2 or newer"),
            Self::Version(_) => None,
        }
    }
}

fn version(known: ABI, kernel: Option<i32>) -> u32 {
    kernel
        .and_then(|newer| u32::try_from(newer).ok())
        .unwrap_or(known as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_with_a_remedy() {
        for lacking in [
            Support::Absent,
            Support::Off,
            Support::Version(1),
            Support::Version(2),
        ] {
            assert!(
                lacking.lack().is_some() && lacking.remedy().is_some(),
                "{lacking:?}"
            );
        }
        for whole in [Support::Version(3), Support::Version(99)] {
            assert_eq!((whole.lack(), whole.remedy()), (None, None));
            assert!(whole.cages());
        }
        assert!(!Support::Version(3).governs_tcp() && Support::Version(4).governs_tcp());
        assert!(!Support::Off.cages() && !Support::Absent.cages());
    }
}
