//! `hatchery open`

use std::collections::BTreeMap;
use std::fmt::Display;

use clap::{Args, ValueEnum};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::{Context, ssh_address, ssh_command};
use crate::error::{Code, Error, Result};

/// What is escaped: all but the unreserved characters (RFC 3986, section 2.3) and the slash.
const IN_A_URL: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// Print the links that open a drone in an editor on your machine
///
/// The links connect over ssh: through the tailnet or, without one, from this server only. The first line is
/// the ssh command itself.
#[derive(Debug, Args)]
pub struct Open {
    /// org/repo or the drone's name
    #[arg(value_name = "DRONE")]
    drone: String,

    /// Print only the link for this editor
    #[arg(long = "in", value_name = "EDITOR")]
    editor: Option<Editor>,
}

/// An editor that has links for work by ssh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Editor {
    /// Visual Studio Code with the Remote - SSH extension
    #[value(name = "vscode")]
    VsCode,
    /// Cursor
    Cursor,
    /// Zed
    Zed,
    /// `JetBrains` Gateway
    #[value(help = "JetBrains Gateway")]
    Gateway,
}

/// What a link leads to.
struct Target<'a> {
    user: &'a str,
    host: &'a str,
    port: u16,
    /// An absolute path.
    folder: &'a str,
}

impl Open {
    pub async fn run(self, context: &Context<'_>) -> Result<()> {
        let docker = context.docker().await?;
        let there = context.running(&docker, &self.drone).await?;
        let name = &there.drone.identity.name;
        let (host, port) = ssh_address(&context.config, &there.drone).ok_or_else(|| {
            Error::new(
                Code::DroneUnhealthy,
                format!("{name} has neither a tailnet nor a published port"),
            )
            .hint(format!(
                "`hatchery rebuild {name}` applies the current configuration; `hatchery ssh {name}` logs in \
                 from this server"
            ))
        })?;
        let target = Target {
            user: &there.user,
            host: &host,
            port,
            folder: &there.folder,
        };
        let ssh = ssh_command(&context.config, &there.drone, &there.user);
        let all = Editor::value_variants().iter();
        let links = all.map(|editor| (editor.name(), editor.link(&target)));
        if context.ui.json() {
            context.ui.json_result(&json!({
                "name": name,
                "user": there.user,
                "host": host,
                "port": port,
                "folder": there.folder,
                "ssh": ssh,
                "links": links.collect::<BTreeMap<_, _>>(),
            }));
        } else if let Some(editor) = self.editor {
            context.ui.result(editor.link(&target));
        } else {
            context.ui.result(format!("{:<9}{ssh}", "ssh"));
            for (editor, link) in links {
                context.ui.result(format!("{editor:<9}{link}"));
            }
        }
        Ok(())
    }
}

impl Editor {
    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The link:
    ///
    /// - VS Code, and Cursor, which is made of it: the authority is that of `code --remote ssh-remote+HOST`
    ///   (<https://github.com/microsoft/vscode/issues/108257>);
    /// - Zed: what follows `zed://ssh/` is an `ssh://` URL's
    ///   (<https://github.com/zed-industries/zed/blob/main/crates/zed/src/zed/open_listener.rs>);
    /// - `JetBrains` Gateway: parameters of a connection by ssh, where Gateway itself asks for the IDE
    ///   (<https://www.jetbrains.com/help/idea/remote-development-a.html>).
    fn link(self, target: &Target<'_>) -> String {
        let (user, host, port) = (escaped(target.user), target.host, target.port);
        let folder = escaped(target.folder);
        let code = |scheme: &str| {
            format!("{scheme}://vscode-remote/ssh-remote+{user}@{host}:{port}{folder}")
        };
        match self {
            Self::VsCode => code("vscode"),
            Self::Cursor => code("cursor"),
            Self::Zed => format!("zed://ssh/{user}@{host}:{port}{folder}"),
            Self::Gateway => format!(
                "jetbrains-gateway://connect#type=ssh&deploy=true&host={host}&port={port}&user={user}\
                 &projectPath={folder}"
            ),
        }
    }
}

/// A path or a name, so that no character of it means anything in a URL.
fn escaped(text: &str) -> impl Display + '_ {
    utf8_percent_encode(text, IN_A_URL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_as_its_editor_reads_it() {
        let target = Target {
            user: "dev",
            host: "acme-site.tail.example",
            port: 2222,
            folder: "/workspaces/my site&x=#?",
        };
        for (editor, name, link) in [
            (
                Editor::VsCode,
                "vscode",
                "vscode://vscode-remote/ssh-remote+dev@acme-site.tail.example:2222/workspaces/my%20site%26x%3D%23%3F",
            ),
            (
                Editor::Cursor,
                "cursor",
                "cursor://vscode-remote/ssh-remote+dev@acme-site.tail.example:2222/workspaces/my%20site%26x%3D%23%3F",
            ),
            (
                Editor::Zed,
                "zed",
                "zed://ssh/dev@acme-site.tail.example:2222/workspaces/my%20site%26x%3D%23%3F",
            ),
            (
                Editor::Gateway,
                "gateway",
                "jetbrains-gateway://connect#type=ssh&deploy=true&host=acme-site.tail.example&port=2222&user=dev\
                 &projectPath=/workspaces/my%20site%26x%3D%23%3F",
            ),
        ] {
            assert_eq!(
                (editor.name().as_str(), editor.link(&target).as_str()),
                (name, link)
            );
        }
    }
}
