//! A drone's sshd and a person's ssh, both OpenSSH's own, with the files that go into a drone.
//!
//! The client starts sshd as its `ProxyCommand`, so every name and port can be had without DNS.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use hatchery::drone::DroneName;
use hatchery::ssh::{Authority, ServerSecret, drone_files, with_settings};

const DOMAIN: &str = "tail.example.test";

/// What images come with, and what the sshd feature makes of it.
const IMAGES: [(&str, &str); 3] = [
    (
        "Debian with the sshd feature",
        "Include /etc/ssh/sshd_config.d/*.conf\nPort 2222\nPermitRootLogin yes\nKbdInteractiveAuthentication no\nUsePAM yes\nGatewayPorts no\nX11Forwarding yes\nPrintMotd no\nAcceptEnv LANG LC_*\nSubsystem sftp /usr/lib/openssh/sftp-server\n",
    ),
    (
        "an image without drop-ins",
        "Port 2222\nPermitRootLogin yes\nPasswordAuthentication yes\nMaxSessions 2\nUsePAM yes\nSubsystem sftp /usr/lib/openssh/sftp-server\n",
    ),
    ("an empty configuration", ""),
];

/// A drone's `/etc/ssh` in a directory, and a client beside it.
struct Scene {
    place: tempfile::TempDir,
    secret: ServerSecret,
}

fn sshd() -> Option<PathBuf> {
    let found = ["/usr/sbin/sshd", "/run/current-system/sw/bin/sshd"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.exists());
    if found.is_none() {
        println!("skipped: there is no sshd (package openssh-server)");
    }
    found
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().expect("it runs")
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn keygen(path: &Path) {
    let made = run(Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(path));
    assert!(made.status.success(), "{}", text(&made));
}

impl Scene {
    /// A drone in the tailnet's domain; without one, at this loopback port.
    fn new(image: &str, domain: Result<&str, u16>) -> Self {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        keygen(&at("user"));
        keygen(&at("stranger"));
        let secret = ServerSecret::load_or_create(&at("state")).unwrap();
        let keys = std::fs::read_to_string(at("user.pub")).unwrap();
        let name = DroneName::of(&"acme/site".parse().unwrap());
        let files = drone_files(&Authority::new(&secret), &name, domain.ok(), &keys).unwrap();
        let here = |text: &str| text.replace("/etc/ssh", at("etc").to_str().unwrap());
        for file in files {
            let path = PathBuf::from(here(&file.path));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let content = here(std::str::from_utf8(&file.content).unwrap());
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(file.mode)).unwrap();
        }
        let config = with_settings(image).unwrap_or_else(|| image.to_owned());
        // The directory is under /tmp, which is everybody's.
        let config = format!("{}StrictModes no\n", here(&config));
        std::fs::write(at("etc/sshd_config"), config).unwrap();
        let scene = Self { place, secret };
        let authority = Authority::new(&scene.secret);
        let line = match domain {
            Ok(domain) => authority.known_hosts_line(domain),
            Err(port) => authority.known_hosts_line_of_port(&name, port),
        };
        scene.know(&line.unwrap());
        scene
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn know(&self, line: &str) {
        std::fs::write(self.at("known_hosts"), format!("{line}\n")).unwrap();
    }

    fn ssh(&self, sshd: &Path, key: &str) -> Command {
        let proxy = format!(
            "{} -i -E {} -f {}",
            sshd.display(),
            self.at("log").display(),
            self.at("etc/sshd_config").display()
        );
        let mut command = Command::new("ssh");
        command
            .args(["-F", "none", "-i"])
            .arg(self.at(key))
            .args(["-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"])
            .args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"])
            .args(["-o", "GlobalKnownHostsFile=/dev/null", "-o"])
            .arg(format!(
                "UserKnownHostsFile={}",
                self.at("known_hosts").display()
            ))
            .args(["-o", &format!("ProxyCommand={proxy}")]);
        command
    }

    /// Logs in and runs a command there.
    fn login(&self, sshd: &Path, key: &str, to: &[&str]) -> Output {
        run(self.ssh(sshd, key).args(to).arg("echo inside; exit 7"))
    }
}

fn is_in(output: &Output) -> bool {
    output.status.code() == Some(7) && output.stdout == b"inside\n"
}

fn prepare() {
    // Where sshd, as root, changes root to.
    let _ = std::fs::create_dir_all("/run/sshd");
}

#[test]
fn one_line_in_known_hosts_is_enough_for_every_name_and_port() {
    let Some(sshd) = sshd() else { return };
    prepare();
    for (which, image) in IMAGES {
        let scene = Scene::new(image, Ok(DOMAIN));
        for to in [
            &["-p", "2222", "acme-site.tail.example.test"][..],
            &["-p", "22", "acme-site.tail.example.test"],
            &["-p", "2222", "Acme-Site.Tail.example.test"],
            &[
                "-p",
                "2222",
                "-o",
                "HostKeyAlias=acme-site.tail.example.test",
                "100.64.0.9",
            ],
        ] {
            // The client's own words alone: a shell's files may say something at each login.
            let log = scene.at("ssh.log");
            let to = [&["-E", log.to_str().unwrap()], to].concat();
            let output = scene.login(&sshd, "user", &to);
            assert!(is_in(&output), "{which}, {to:?}: {}", text(&output));
            let warnings = std::fs::read_to_string(&log).unwrap();
            assert!(warnings.is_empty(), "{which}, {to:?}: {warnings}");
        }
    }
}

#[test]
fn without_a_tailnet_the_line_of_a_port_is_for_this_drone_there_alone() {
    let Some(sshd) = sshd() else { return };
    prepare();
    let port = 49153;
    let scene = Scene::new(IMAGES[0].1, Err(port));
    for host in ["127.0.0.1", "localhost"] {
        let output = scene.login(&sshd, "user", &["-p", "49153", host]);
        assert!(is_in(&output), "{host}: {}", text(&output));
    }
    for to in [["-p", "49154", "127.0.0.1"], ["-p", "49153", "192.0.2.1"]] {
        let output = scene.login(&sshd, "user", &to);
        assert!(!is_in(&output), "{to:?} was taken for the drone");
    }
    // Another drone listens there, with all that this server gave it.
    let other = DroneName::of(&"acme/web".parse().unwrap());
    let line = Authority::new(&scene.secret).known_hosts_line_of_port(&other, port);
    scene.know(&line.unwrap());
    let output = scene.login(&sshd, "user", &["-p", "49153", "127.0.0.1"]);
    let said = text(&output);
    assert!(said.contains("Host key verification failed"), "{said}");
    // Not even one that trusts the authority for the port takes it for a drone's name.
    let domain = Authority::new(&scene.secret).known_hosts_line(DOMAIN);
    let authority = domain.unwrap();
    let key = authority.split_once(" ssh-ed25519").unwrap().1;
    scene.know(&format!("@cert-authority [127.0.0.1]:* ssh-ed25519{key}"));
    let output = scene.login(&sshd, "user", &["-p", "49153", "127.0.0.1"]);
    assert!(!is_in(&output), "{}", text(&output));
}

#[test]
fn another_authority_or_another_drones_name_is_refused() {
    let Some(sshd) = sshd() else { return };
    prepare();
    let scene = Scene::new(IMAGES[0].1, Ok(DOMAIN));
    let refused = |to: &str| {
        let output = scene.login(&sshd, "user", &["-p", "2222", to]);
        assert_eq!(output.status.code(), Some(255), "{to}: {}", text(&output));
        text(&output)
    };
    let said = refused("acme-other.tail.example.test");
    assert!(said.contains("not a listed principal"), "{said}");
    refused("acme-site.other.example.test");

    let elsewhere = ServerSecret::load_or_create(&scene.at("elsewhere")).unwrap();
    let line = Authority::new(&elsewhere).known_hosts_line(DOMAIN);
    scene.know(&line.unwrap());
    let said = refused("acme-site.tail.example.test");
    assert!(said.contains("Host key verification failed"), "{said}");
}

#[test]
fn neither_a_password_nor_an_unknown_key_lets_anybody_in() {
    let Some(sshd) = sshd() else { return };
    prepare();
    for (which, image) in IMAGES {
        let scene = Scene::new(image, Ok(DOMAIN));
        let to = ["-p", "2222", "acme-site.tail.example.test"];
        let output = scene.login(&sshd, "stranger", &to);
        assert!(!is_in(&output));
        // The server names the methods that could go on.
        let said = text(&output);
        assert!(
            said.contains("Permission denied (publickey)."),
            "{which}: {said}"
        );
        let output = run(scene
            .ssh(&sshd, "stranger")
            .args(["-o", "BatchMode=no", "-o", "NumberOfPasswordPrompts=1"])
            .args([
                "-o",
                "PreferredAuthentications=password,keyboard-interactive",
            ])
            .args(to)
            .arg("true"));
        assert!(
            text(&output).contains("Permission denied (publickey)."),
            "{which}"
        );
    }
}

#[test]
fn many_channels_go_over_one_connection() {
    let Some(sshd) = sshd() else { return };
    prepare();
    let scene = Scene::new(IMAGES[1].1, Ok(DOMAIN));
    let control = format!("ControlPath={}", scene.at("control").display());
    let to = ["-p", "2222", "acme-site.tail.example.test"];
    let mut master = scene
        .ssh(&sshd, "user")
        .args(["-o", &control, "-M", "-N"])
        .args(to)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..200 {
        if scene.at("control").exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let channels: Vec<_> = (0..30)
        .map(|_| {
            // A proxy that cannot work: only the connection that is there can.
            Command::new("ssh")
                .args(["-F", "none", "-o", &control, "-o", "ProxyCommand=false"])
                .args(to)
                .arg("sleep 1")
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let ended = channels
        .into_iter()
        .map(|mut channel| channel.wait().unwrap().code())
        .filter(|code| *code == Some(0))
        .count();
    let _ = master.kill();
    let _ = master.wait();
    assert_eq!(ended, 30);
}

#[test]
fn what_the_image_says_comes_second() {
    let Some(sshd) = sshd() else { return };
    prepare();
    for (which, image) in IMAGES {
        let scene = Scene::new(image, Ok(DOMAIN));
        let output = run(Command::new(&sshd)
            .arg("-T")
            .arg("-f")
            .arg(scene.at("etc/sshd_config")));
        let said = text(&output);
        assert!(output.status.success(), "{which}: {said}");
        for wanted in [
            "passwordauthentication no",
            "kbdinteractiveauthentication no",
            "permitrootlogin without-password",
            "pubkeyauthentication yes",
            "authenticationmethods publickey",
            "maxsessions 100",
            "maxstartups 100:30:100",
        ] {
            assert!(
                said.lines().any(|line| line == wanted),
                "{which}: {wanted:?} is not in\n{said}"
            );
        }
        let keys = said.lines().filter(|line| line.starts_with("hostkey "));
        assert_eq!(keys.count(), 1, "{which}: no other host key is offered");
    }
}
