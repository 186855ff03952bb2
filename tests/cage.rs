//! The cage from within: the real hatchery, called by its link, runs real programs that try.

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use hatchery::cage::{Rules, Support};

/// A cage with a directory to write in, and a place outside that holds a secret.
struct Place {
    inside: PathBuf,
    outside: PathBuf,
    rules: PathBuf,
    link: PathBuf,
    _directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let (inside, outside, rules) = (root.join("in"), root.join("out"), root.join("bin"));
        for path in [&inside, &outside, &rules] {
            std::fs::create_dir(path).unwrap();
        }
        std::fs::write(outside.join("secret"), "larva").unwrap();
        let hatchery = Path::new(env!("CARGO_BIN_EXE_hatchery"));
        let link = Rules::of_system()
            .program(hatchery)
            .program(Path::new("/bin/sh"))
            .write(&inside)
            .install(&rules, hatchery)
            .unwrap();
        Self {
            inside,
            outside,
            rules,
            link,
            _directory: directory,
        }
    }

    /// Runs a script caged, `$out` being the place outside.
    fn run(&self, script: &str) -> Output {
        Command::new(&self.link)
            .args(["/bin/sh", "-c", script])
            .current_dir(&self.inside)
            .env("out", &self.outside)
            .env("HOME", &self.inside)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap()
    }

    /// A caged process that waits for its input to end.
    fn waiting(&self) -> Child {
        let mut child = Command::new(&self.link)
            .args(["/bin/sh", "-c", "echo in; read line"])
            .current_dir(&self.inside)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 3];
        let stdout = child.stdout.as_mut().unwrap();
        stdout.read_exact(&mut said).unwrap();
        child
    }

    fn works(&self, script: &str) -> String {
        let output = self.run(script);
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The script fails, reads no secret and leaves the place outside as it was.
    fn is_kept_from(&self, script: &str) {
        let output = self.run(script);
        assert!(!output.status.success(), "{script}: {output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!said.contains("larva"), "{script}: {said}");
        let entries: Vec<_> = std::fs::read_dir(&self.outside)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(entries, ["secret"], "{script}");
        let secret = std::fs::read_to_string(self.outside.join("secret")).unwrap();
        assert_eq!(secret, "larva", "{script}");
    }
}

/// Without Landlock there is nothing to try but that the program runs all the same.
fn cages() -> bool {
    if Support::of_this_kernel().cages() {
        return true;
    }
    println!("skipped: this kernel has no Landlock");
    let output = Place::new().run("echo out");
    assert_eq!(output.stdout, b"out\n", "{output:?}");
    false
}

#[test]
fn programs_work_inside() {
    if !cages() {
        return;
    }
    let place = Place::new();
    assert_eq!(
        place.works("echo one > a && ln a b && mkdir d && mv b d/c && cat d/c && rm -r a d"),
        "one\n"
    );
    place.works(
        "git init -q r && cd r && git -c user.name=a -c user.email=b commit -q --allow-empty -m x",
    );
    place.works("ls /usr/bin /proc/sys/vm > /dev/null && head -c 1 /dev/urandom > /dev/null && getent hosts localhost");
    place.works("sleep 60 & kill $!");
    place.works("cat <<'END' | cat - /dev/stdin\nfrom a pipe\nEND");
}

#[test]
fn nothing_outside_is_read() {
    if !cages() {
        return;
    }
    let place = Place::new();
    symlink(&place.outside, place.inside.join("link")).unwrap();
    symlink("../out/secret", place.inside.join("file")).unwrap();
    for script in [
        "cat $out/secret",
        "cat link/secret",
        "cat file",
        "cat ../out/secret",
        "cat /proc/self/root$out/secret",
        "cat /proc/self/cwd/../out/secret",
        "ls $out",
        "cp -r link/. copy && cat copy/secret",
        "cat /etc/shadow",
        "cat /proc/$PPID/environ",
        "cat /proc/1/maps",
        "head -c 1 /dev/mem",
    ] {
        place.is_kept_from(script);
    }
}

#[test]
fn nothing_outside_is_written() {
    if !cages() {
        return;
    }
    let place = Place::new();
    symlink(&place.outside, place.inside.join("link")).unwrap();
    symlink("../out/new", place.inside.join("file")).unwrap();
    std::fs::write(place.inside.join("mine"), "mine").unwrap();
    for script in [
        "echo x > $out/new",
        "echo x >> $out/secret",
        "echo x > link/new",
        "echo x > file",
        "echo x > /proc/self/root$out/new",
        "truncate -s 0 link/secret",
        "ln $out/secret hard",
        "ln mine link/new",
        "mv link/secret moved",
        "mv mine link/new",
        "mkdir link/new",
        "ln -s x link/new",
        "mkfifo link/new",
        "rm link/secret",
        "echo x > /etc/hatchery-was-here",
    ] {
        place.is_kept_from(script);
    }
    assert_eq!(place.works("cat mine"), "mine");
}

/// Connects to a socket, as Docker's own clients do.
const CONNECT: &str =
    "python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])'";

#[test]
fn no_socket_of_a_service_is_in_sight() {
    if !cages() {
        return;
    }
    let Ok(service) = tempfile::tempdir_in("/run") else {
        println!("skipped: only root can put a socket into /run");
        return;
    };
    if !Command::new("unshare")
        .args(["-m", "true"])
        .status()
        .is_ok_and(|status| status.success())
    {
        println!("skipped: no mount namespace can be had here");
        return;
    }
    let place = Place::new();
    let (in_run, elsewhere) = (service.path().join("s"), place.outside.join("s"));
    let _listening = [&in_run, &elsewhere].map(|path| UnixListener::bind(path).unwrap());
    let connect = |to: &Path| format!("{CONNECT} {}", to.display());
    // Landlock alone leaves both.
    for path in [&in_run, &elsewhere] {
        let outside = Command::new("sh").arg("-c").arg(connect(path)).status();
        assert!(outside.unwrap().success());
    }
    place.works(&connect(&elsewhere));
    assert!(!place.run(&connect(&in_run)).status.success());
    place.works("test -d /run && ! ls /run/* 2> /dev/null | grep docker");

    let hatchery = Path::new(env!("CARGO_BIN_EXE_hatchery"));
    let install = |rules: Rules| {
        let rules = rules.program(hatchery).program(Path::new("/bin/sh"));
        rules
            .write(&place.inside)
            .install(&place.rules, hatchery)
            .unwrap()
    };
    install(Rules::of_system().hide(&elsewhere).read(service.path()));
    assert!(!place.run(&connect(&elsewhere)).status.success());
    place.works(&connect(&in_run));
    // It can be brought back by nobody.
    for script in [
        "umount /run",
        "umount -l /run",
        "mount -t proc proc /proc",
        "unshare -m true",
    ] {
        assert!(!place.run(script).status.success(), "{script}");
    }
    std::fs::remove_file(&elsewhere).unwrap();
}

#[test]
fn only_the_port_that_it_may_is_connected_to() {
    if !cages() {
        return;
    }
    if !Support::of_this_kernel().governs_tcp() {
        println!("skipped: this kernel's Landlock does not know of TCP");
        return;
    }
    let place = Place::new();
    let hatchery = Path::new(env!("CARGO_BIN_EXE_hatchery"));
    let [outlet, service] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    service.set_nonblocking(true).unwrap();
    let port = |of: &TcpListener| of.local_addr().unwrap().port();
    let python = |call: &str| format!("python3 -c 'import socket; {call}'");
    let connect = |to: u16| python(&format!("socket.create_connection((\"127.0.0.1\", {to}))"));
    let bind = python("socket.create_server((\"127.0.0.1\", 0))");
    // Where the rules say nothing of it, all is as it was.
    for script in [&connect(port(&service)), &bind] {
        place.works(script);
    }
    service.accept().unwrap();
    let rules = Rules::of_system().program(hatchery);
    rules
        .program(Path::new("/bin/sh"))
        .write(&place.inside)
        .connect(port(&outlet))
        .install(&place.rules, hatchery)
        .unwrap();
    place.works(&connect(port(&outlet)));
    // By name, as programs do that look it up: what is not TCP stays.
    place.works("getent hosts localhost");
    for script in [&connect(port(&service)), &bind] {
        place.is_kept_from(script);
    }
    assert!(service.accept().is_err(), "it was reached");
}

#[test]
fn what_is_unpacked_is_no_program() {
    if !cages() {
        return;
    }
    let place = Place::new();
    place.works("printf '#!/bin/sh\\necho larva\\n' > run && chmod +x run");
    place.is_kept_from("./run");
    place.is_kept_from("cp /bin/true true && ./true");
    place.is_kept_from("mknod device b 7 0");
}

#[test]
fn no_process_takes_more_memory_than_it_may() {
    let place = Place::new();
    let hatchery = Path::new(env!("CARGO_BIN_EXE_hatchery"));
    let mut rules = Rules::of_system().program(hatchery).write(&place.inside);
    rules.memory = 64 * 1024 * 1024;
    rules.install(&place.rules, hatchery).unwrap();
    // It keeps all that comes before the end of a line.
    let keep = |size: &str| format!("head -c {size} /dev/zero | tail -n 1 > /dev/null");
    place.works(&keep("8M"));
    assert!(!place.run(&keep("256M")).status.success());
    place.is_kept_from("ulimit -d unlimited");
    place.is_kept_from("ulimit -d 1000000");
}

#[test]
fn root_in_it_may_do_nothing_but_with_files() {
    // CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID (capabilities(7)).
    const OF_FILES: u64 = 0b1_1111;
    let place = Place::new();
    let mut child = place.waiting();
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let has = u64::from_str_radix(set.unwrap().trim(), 16).unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(has & !OF_FILES, 0, "{has:x}");
}

#[test]
fn it_dies_before_what_serves() {
    let place = Place::new();
    let mut child = place.waiting();
    let score = format!("/proc/{}/oom_score_adj", child.id());
    assert_eq!(std::fs::read_to_string(score).unwrap().trim(), "500");
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn the_cage_cannot_be_changed_from_within() {
    if !cages() {
        return;
    }
    let place = Place::new();
    place.is_kept_from("echo {} > ../bin/cage.json");
    place.is_kept_from("rm ../bin/hatchery-cage");
    place.is_kept_from("kill -0 $PPID");
    // A second cage within the first opens nothing.
    let wider = Place::new();
    let link = wider.link.display();
    place.is_kept_from(&format!(
        "{link} /bin/sh -c 'echo x > {}/x'",
        wider.inside.display()
    ));
    assert!(!wider.inside.join("x").exists());
}

#[test]
fn without_its_rules_nothing_runs() {
    let place = Place::new();
    let file = place.rules.join("cage.json");
    let whole = std::fs::read_to_string(&file).unwrap();
    let lost = whole.replace(place.inside.to_str().unwrap(), "/nonexistent/larva");
    for rules in [Some(""), Some("{}"), Some(&whole[1..]), Some(&*lost), None] {
        match rules {
            Some(text) => std::fs::write(&file, text).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let output = place.run("echo out");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{rules:?}: {said}");
        assert!(output.stdout.is_empty(), "{rules:?}");
        assert!(said.starts_with("hatchery: the cage failed: "), "{said}");
    }
}

#[test]
fn it_stays_the_process_that_was_started() {
    if !cages() {
        return;
    }
    let place = Place::new();
    let mut command = Command::new(&place.link);
    let command = command
        .args(["/bin/sh", "-c", "echo $$; exit 7"])
        .current_dir(&place.inside)
        .stdout(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    let id = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, format!("{id}\n").as_bytes());
    assert_eq!(output.status.code(), Some(7));
}
