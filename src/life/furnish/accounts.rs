//! The users of a container: who the remote user is, and whether sshd lets them in, as far as the files say.
//!
//! passwd(5) and shadow(5). Both are the image's, so nothing in them is believed but what is compared.

use std::time::{SystemTime, UNIX_EPOCH};

use super::MAX_FILE;
use crate::devcontainer::is_number;
use crate::docker::{Docker, Owner, Tree, WholeFile};
use crate::error::{Code, Error, Result};

/// Where passwords and dates are; root's alone.
const SHADOW: &str = "/etc/shadow";

/// Programs that end at once, or end more than the session.
const NO_SHELLS: [&str; 6] = ["nologin", "false", "true", "sync", "halt", "shutdown"];

/// What an image says of its users.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    passwd: String,
    shadow: Option<WholeFile>,
}

/// Why a user cannot log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hindrance {
    /// No shell runs for them, but this.
    NoShell(String),
    /// The account has an end, which has come.
    Expired,
    /// The password must be changed first, by hand.
    MustChange,
}

impl Accounts {
    /// Those of a container, which need not run.
    pub async fn of(docker: &Docker, container: &str) -> Result<Self> {
        let (passwd, shadow) = tokio::try_join!(
            docker.file(container, "/etc/passwd", MAX_FILE),
            docker.whole_file(container, SHADOW, MAX_FILE),
        )?;
        let passwd = String::from_utf8_lossy(&passwd.unwrap_or_default()).into_owned();
        Ok(Self { passwd, shadow })
    }

    /// The ids of this user.
    pub fn owner(&self, user: &str) -> Result<Owner> {
        if user == "root" {
            return Ok(Owner::ROOT);
        }
        owner_in(&self.passwd, user).ok_or_else(|| {
            Error::new(
                Code::DevcontainerInvalid,
                format!("the image has no user {user:?}"),
            )
            .hint("check remoteUser in devcontainer.json")
        })
    }

    /// The name of a user, who may be a number in a configuration or an image's `USER`. It goes into a
    /// configuration and into the command that reaches the drone.
    pub fn name(&self, user: &str) -> Result<String> {
        if !is_number(user) {
            return is_login(user).then(|| user.to_owned()).ok_or_else(|| {
                Error::new(
                    Code::DevcontainerInvalid,
                    format!("the image's USER, {user:?}, is not a user name"),
                )
                .hint("fix USER in the Dockerfile, or set remoteUser in devcontainer.json")
            });
        }
        name_in(&self.passwd, user).ok_or_else(|| {
            Error::new(
                Code::DevcontainerInvalid,
                format!(
                    "the user is given as the number {user}, and no user in the image's /etc/passwd has it"
                ),
            )
            .hint(format!(
                "ssh logs in by user name: add a user in a Dockerfile (`RUN useradd --create-home --uid \
                 {user} dev`), or set remoteUser in devcontainer.json to a user of the image"
            ))
        })
    }

    /// The login shell of this user; `/bin/sh` where none is named.
    pub fn shell(&self, user: &str) -> Option<&str> {
        let shell = line_of(&self.passwd, user)?.split(':').nth(6)?;
        let shell = shell.trim_end();
        Some(if shell.is_empty() { "/bin/sh" } else { shell })
    }

    /// The home of this user, if the image names one.
    pub fn home(&self, user: &str) -> Option<&str> {
        let home = line_of(&self.passwd, user)?.split(':').nth(5)?;
        home.starts_with('/').then_some(home)
    }

    /// What keeps this user out on that day, counted from 1970.
    fn hindrance(&self, user: &str, today: i64) -> Option<Hindrance> {
        if let Some(shell) = self.shell(user) {
            let program = shell.rsplit('/').next().unwrap_or(shell);
            if NO_SHELLS.contains(&program) {
                return Some(Hindrance::NoShell(program.to_owned()));
            }
        }
        let shadow = self.shadow_text();
        let fields: Vec<&str> = line_of(&shadow, user)?.split(':').collect();
        let day = |at: usize| fields.get(at)?.trim().parse::<i64>().ok();
        // Less than none is never (shadow(5), chage(1)).
        if day(7).is_some_and(|end| (0..=today).contains(&end)) {
            return Some(Hindrance::Expired);
        }
        (day(2) == Some(0)).then_some(Hindrance::MustChange)
    }

    /// Fails with what keeps this user out today, whatever sshd is told.
    pub fn check(&self, user: &str) -> Result<()> {
        if !is_login(user) {
            return Err(Error::new(
                Code::DevcontainerInvalid,
                format!("{user:?} is not a user name that ssh can log in with"),
            )
            .hint("set remoteUser in devcontainer.json to the name of a user of the image"));
        }
        match self.hindrance(user, today()) {
            // Only an sshd with PAM asks for it.
            None | Some(Hindrance::MustChange) => Ok(()),
            Some(hindrance) => Err(hindrance.told(user)),
        }
    }

    /// What may keep this user out today.
    pub fn hindrance_today(&self, user: &str) -> Option<Hindrance> {
        self.hindrance(user, today())
    }

    /// A tree with this user's account unlocked for keys, where it was locked.
    ///
    /// `useradd` and `adduser -D` lock an account by a `!` in place of its password, and an sshd without PAM
    /// then lets no key in. A `*` is as little a password, and lets keys in.
    #[must_use]
    pub fn unlocked(&self, user: &str, tree: Tree) -> Tree {
        let (Some(file), Some(content)) = (&self.shadow, unlock(&self.shadow_text(), user)) else {
            return tree;
        };
        let file = WholeFile {
            content: content.into_bytes(),
            ..file.clone()
        };
        tree.whole(SHADOW, file)
    }

    fn shadow_text(&self) -> String {
        let file = self.shadow.as_ref();
        file.and_then(|file| String::from_utf8(file.content.clone()).ok())
            .unwrap_or_default()
    }
}

impl Hindrance {
    fn told(&self, user: &str) -> Error {
        let (why, hint) = self.words(user);
        Error::new(
            Code::DevcontainerInvalid,
            format!("it is not possible to log in as {user}: {why}"),
        )
        .hint(hint)
    }

    /// Why it is, and what helps.
    pub fn words(&self, user: &str) -> (String, String) {
        match self {
            Self::NoShell(program) => (
                format!("its shell in the image's /etc/passwd is {program}"),
                format!(
                    "set a shell in a Dockerfile (`RUN usermod --shell /bin/sh {user}`), or set remoteUser \
                     in devcontainer.json to another user"
                ),
            ),
            Self::Expired => (
                "its account has expired according to the image's /etc/shadow".to_owned(),
                format!(
                    "remove the expiry date in a Dockerfile: `RUN chage --expiredate -1 {user}`"
                ),
            ),
            Self::MustChange => (
                "its password must be changed first according to the image's /etc/shadow"
                    .to_owned(),
                format!("lift that in a Dockerfile: `RUN chage --lastday -1 {user}`"),
            ),
        }
    }
}

/// The name of the first user with this number; one who is called by that number comes before.
fn name_in(passwd: &str, uid: &str) -> Option<String> {
    let named = |at: usize| {
        let mut lines = passwd.lines().map(|line| line.split(':'));
        lines
            .find(|fields| fields.clone().nth(at) == Some(uid))
            .and_then(|mut fields| fields.next())
    };
    let name = named(0).or_else(|| named(2));
    name.filter(|name| is_login(name)).map(str::to_owned)
}

/// Whether a user can be called that: no option, nothing that a shell or a terminal would read.
fn is_login(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// passwd(5): name, password, user id, group id.
fn owner_in(passwd: &str, user: &str) -> Option<Owner> {
    let mut numeric = None;
    for line in passwd.lines() {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next(), fields.next(), fields.next());
        let ids = || {
            Some(Owner {
                uid: uid?.parse().ok()?,
                gid: gid?.parse().ok()?,
            })
        };
        if name == user {
            return ids();
        }
        if uid == Some(user) {
            numeric = numeric.or_else(ids);
        }
    }
    numeric.or_else(|| {
        let uid = user.parse().ok()?;
        Some(Owner { uid, gid: uid })
    })
}

/// Days since 1970.
fn today() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let days = now.map_or(0, |since| since.as_secs() / (24 * 60 * 60));
    i64::try_from(days).unwrap_or(i64::MAX)
}

/// The first line that is this user's.
fn line_of<'a>(text: &'a str, user: &str) -> Option<&'a str> {
    text.lines()
        .find(|line| line.split_once(':').is_some_and(|(name, _)| name == user))
}

/// The same text with this user's password a `*`, where a `!` locks it.
fn unlock(shadow: &str, user: &str) -> Option<String> {
    let line = line_of(shadow, user)?;
    let mut fields: Vec<&str> = line.split(':').collect();
    let password = fields.get_mut(1).filter(|it| it.starts_with('!'))?;
    *password = "*";
    let unlocked = fields.join(":");
    let lines = shadow.split_inclusive('\n').scan(false, |done, each| {
        let is_it = !*done && each.trim_end_matches(['\r', '\n']) == line;
        *done |= is_it;
        Some(if is_it {
            each.replacen(line, &unlocked, 1)
        } else {
            each.to_owned()
        })
    });
    Some(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nwww:x:33:33::/var/www:/usr/sbin/nologin\n\
                          app:x:1000:1000::/home/app:\nsvc:x:1001:1001::/:/bin/false\nbad\n:x:1:1::/:/bin/false\n";
    const SHADOW_TEXT: &str = "root:*:19000:0:99999:7:::\nwww:*:19000::::::\napp:!:19000:0:99999:7::20000:\n\
                               new:$6$x:0:0:99999:7:::\ngone:!$6$x:19000:::::0:\nbad:!\nlast:!!:1";

    fn accounts() -> Accounts {
        Accounts {
            passwd: PASSWD.to_owned(),
            shadow: Some(WholeFile {
                content: SHADOW_TEXT.into(),
                mode: 0o640,
                owner: Owner { uid: 0, gid: 42 },
            }),
        }
    }

    #[test]
    fn a_user_is_found_by_name_or_number() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\n\nvscode:x:1000:1001::/home/vscode:/bin/bash\n";
        let ids = |user| owner_in(passwd, user).map(|owner| (owner.uid, owner.gid));
        assert_eq!(ids("vscode"), Some((1000, 1001)));
        assert_eq!(ids("1000"), Some((1000, 1001)));
        assert_eq!(ids("1234"), Some((1234, 1234)));
        assert_eq!(ids("nobody-here"), None);
    }

    #[test]
    fn a_number_has_the_name_that_the_image_gives_it() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\nnode:x:1000:1000::/home/node:/bin/sh\n\
                      also:x:1000:1000::/:/bin/sh\n12:x:1001:1001::/:/bin/sh\n:x:1002:1::/:\n\
                      -oProxyCommand=x:x:1003:1::/:\n";
        for (uid, name) in [
            ("1000", Some("node")),
            ("12", Some("12")),
            ("1002", None),
            ("1003", None),
            ("100", None),
            ("x", None),
        ] {
            assert_eq!(name_in(passwd, uid).as_deref(), name, "{uid}");
        }
    }

    #[test]
    fn what_keeps_a_user_out_is_found() {
        let accounts = accounts();
        let no_shell = |program: &str| Some(Hindrance::NoShell(program.to_owned()));
        for (user, today, expected) in [
            ("root", 20_000, None),
            ("www", 20_000, no_shell("nologin")),
            ("svc", 20_000, no_shell("false")),
            ("app", 19_999, None),
            ("app", 20_000, Some(Hindrance::Expired)),
            ("gone", 20_000, Some(Hindrance::Expired)),
            ("new", 20_000, Some(Hindrance::MustChange)),
            ("bad", 20_000, None),
            ("nobody", 20_000, None),
            ("", 20_000, no_shell("false")),
        ] {
            assert_eq!(accounts.hindrance(user, today), expected, "{user}");
        }
        assert_eq!(accounts.shell("app"), Some("/bin/sh"));
        assert_eq!(Accounts::default().hindrance("root", 20_000), None);
    }

    #[test]
    fn it_is_told_with_what_helps() {
        assert!(accounts().check("new").is_ok(), "sshd may have no PAM");
        for user in ["www", "gone"] {
            let error = accounts().check(user).unwrap_err();
            assert_eq!(error.code(), Code::DevcontainerInvalid);
            assert!(error.message().contains(user), "{}", error.message());
            assert!(error.what_next().unwrap().contains(user), "{error:?}");
        }
        let odd = accounts().check("-oProxyCommand=x").unwrap_err();
        assert_eq!(odd.code(), Code::DevcontainerInvalid);
    }

    #[test]
    fn a_lock_is_taken_off_for_keys_and_nothing_else_changes() {
        for (user, unlocked) in [
            ("app", Some("app:*:19000:0:99999:7::20000:\n")),
            ("gone", Some("gone:*:19000:::::0:\n")),
            ("bad", Some("bad:*\n")),
            ("last", Some("last:*:1")),
            ("root", None),
            ("new", None),
            ("nobody", None),
        ] {
            let text = unlock(SHADOW_TEXT, user);
            assert_eq!(text.is_some(), unlocked.is_some(), "{user}");
            let Some((text, unlocked)) = text.zip(unlocked) else {
                continue;
            };
            let pairs = text
                .split_inclusive('\n')
                .zip(SHADOW_TEXT.split_inclusive('\n'));
            let changed: Vec<_> = pairs.filter(|(new, old)| new != old).collect();
            assert_eq!(changed.len(), 1, "{user}");
            assert_eq!(changed[0].0, unlocked);
        }
    }
}
