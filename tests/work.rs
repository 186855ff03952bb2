//! What is found of work in a volume: real repositories, made by the real git.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use hatchery::life::work::look::{Asked, Counts, Question, Seen, look};

/// A volume in which a drone's clone of a real remote lies, as spawn leaves it.
struct Bed {
    directory: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        let bed = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(bed.volume()).unwrap();
        let first = bed.directory.path().join("first");
        bed.git(bed.directory.path(), &["init", "-q", "-b", "main", "first"]);
        fs::write(first.join(".gitignore"), ".env\nnode_modules/\nsecrets/\n").unwrap();
        bed.commit(&first, "First");
        bed.git(
            bed.directory.path(),
            &["clone", "-q", "--bare", "first", "remote.git"],
        );
        bed.clone_to("site");
        bed
    }

    fn volume(&self) -> PathBuf {
        self.directory.path().join("volume")
    }

    fn site(&self) -> PathBuf {
        self.volume().join("site")
    }

    /// A clone whose remote is, as far as git's configuration says, on GitHub.
    fn clone_to(&self, name: &str) -> PathBuf {
        let remote = self.directory.path().join("remote.git");
        let clone = self.volume().join(name);
        let parent = clone.parent().unwrap();
        self.git(
            parent,
            &[
                "clone",
                "-q",
                remote.to_str().unwrap(),
                clone.to_str().unwrap(),
            ],
        );
        let url = "https://github.com/acme/site";
        self.git(&clone, &["remote", "set-url", "origin", url]);
        clone
    }

    fn git(&self, at: &Path, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args([
                "-c",
                "user.name=Sarah",
                "-c",
                "user.email=sarah@example.test",
            ])
            .args(["-c", "protocol.file.allow=always"])
            .args(arguments)
            .current_dir(at)
            .env("HOME", self.directory.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn commit(&self, at: &Path, message: &str) {
        self.git(at, &["add", "--all", "."]);
        self.git(at, &["commit", "-q", "--allow-empty", "-m", message]);
    }

    fn seen(&self) -> Seen {
        self.seen_since(i64::MIN)
    }

    fn seen_since(&self, ignored_since: i64) -> Seen {
        look(&Question {
            volumes: vec![Asked {
                at: self.volume(),
                told_as: "/workspaces".into(),
                loose: true,
            }],
            ignored_since,
        })
    }

    /// The one line that tells of the loss.
    fn lost(&self) -> String {
        let seen = self.seen();
        assert_eq!(seen.volumes[0].closed, [], "{seen:?}");
        assert_eq!(seen.volumes[0].lost.len(), 1, "{seen:?}");
        seen.volumes[0].lost[0].clone()
    }

    fn nothing(&self) {
        let seen = self.seen();
        assert_eq!(seen.volumes[0].lost, [""; 0], "{seen:?}");
        assert_eq!(seen.volumes[0].closed, [], "{seen:?}");
        assert_eq!(seen.stopped, None);
    }
}

#[test]
fn a_fresh_clone_holds_nothing() {
    let bed = Bed::new();
    bed.nothing();
    fs::create_dir_all(bed.site().join("node_modules/left-pad")).unwrap();
    fs::write(bed.site().join("node_modules/left-pad/index.js"), "").unwrap();
    fs::create_dir_all(bed.volume().join(".pnpm-store/v3")).unwrap();
    fs::write(bed.volume().join(".pnpm-store/v3/x"), "").unwrap();
    bed.nothing();
}

#[test]
fn an_empty_volume_holds_nothing() {
    let bed = Bed::new();
    fs::remove_dir_all(bed.site()).unwrap();
    bed.nothing();
}

#[test]
fn tags_that_came_with_the_clone_are_not_work_and_own_ones_are() {
    let bed = Bed::new();
    let first = bed.directory.path().join("first");
    bed.git(&first, &["checkout", "-q", "--detach"]);
    let old = [
        "-c",
        "user.name=S",
        "commit",
        "-q",
        "--allow-empty",
        "-m",
        "Old",
        "--date=2020-01-01T00:00:00",
    ];
    let status = Command::new("git")
        .args(["-c", "user.email=s@example.test"])
        .args(old)
        .current_dir(&first)
        .env("GIT_COMMITTER_DATE", "2020-01-01T00:00:00")
        .status();
    assert!(status.unwrap().success());
    bed.git(&first, &["tag", "v0"]);
    bed.git(&first, &["push", "-q", "../remote.git", "v0"]);
    let second = bed.clone_to("second");
    bed.nothing();
    bed.git(&second, &["checkout", "-q", "--detach"]);
    bed.commit(&second, "Mine");
    bed.git(&second, &["tag", "mine"]);
    bed.git(&second, &["checkout", "-q", "main"]);
    assert!(
        bed.lost()
            .contains("/workspaces/second: not pushed, only tagged: "),
        "{}",
        bed.lost()
    );
}

#[test]
fn changes_commits_and_stashes_are_found() {
    let bed = Bed::new();
    fs::write(bed.site().join("draft"), "").unwrap();
    assert_eq!(bed.lost(), "/workspaces/site: not committed: ?? draft");
    bed.git(&bed.site(), &["stash", "-q", "-u"]);
    assert!(
        bed.lost()
            .starts_with("/workspaces/site: stashed: stash@{0}: "),
        "{}",
        bed.lost()
    );
    bed.git(&bed.site(), &["stash", "pop", "-q"]);
    bed.commit(&bed.site(), "Mine");
    assert!(bed.lost().ends_with(" Mine"), "{}", bed.lost());
    bed.git(&bed.site(), &["checkout", "-q", "-b", "other", "HEAD~1"]);
    assert!(bed.lost().contains("site: not pushed: "), "{}", bed.lost());
    bed.git(
        &bed.site(),
        &["update-ref", "refs/remotes/origin/main", "main"],
    );
    bed.nothing();
}

#[test]
fn a_commit_on_no_branch_is_found() {
    let bed = Bed::new();
    bed.git(&bed.site(), &["checkout", "-q", "--detach"]);
    bed.commit(&bed.site(), "Afloat");
    assert!(bed.lost().ends_with(" Afloat"), "{}", bed.lost());
}

#[test]
fn second_nested_bare_and_foreign_repositories_are_found() {
    let bed = Bed::new();
    let other = bed.clone_to("other");
    bed.nothing();
    bed.commit(&other, "Elsewhere");
    assert!(
        bed.lost().starts_with("/workspaces/other: not pushed: "),
        "{}",
        bed.lost()
    );
    fs::remove_dir_all(other).unwrap();

    fs::create_dir_all(bed.site().join("secrets/deep")).unwrap();
    let nested = bed.clone_to("site/secrets/deep/nested");
    bed.nothing();
    bed.commit(&nested, "Nested");
    assert!(
        bed.lost().contains("secrets/deep/nested: not pushed: "),
        "{}",
        bed.lost()
    );
    fs::remove_dir_all(bed.site().join("secrets")).unwrap();

    bed.git(
        &bed.volume(),
        &["clone", "-q", "--bare", "site", "backup.git"],
    );
    assert!(
        bed.lost()
            .starts_with("/workspaces/backup.git: not pushed: "),
        "{}",
        bed.lost()
    );
}

#[test]
fn a_remote_in_the_volume_is_no_other_place() {
    let bed = Bed::new();
    bed.git(&bed.volume(), &["init", "-q", "--bare", "backup.git"]);
    bed.git(&bed.site(), &["remote", "add", "backup", "../backup.git"]);
    bed.commit(&bed.site(), "Mine");
    bed.git(&bed.site(), &["push", "-q", "backup", "main"]);
    let seen = bed.seen();
    let lost = &seen.volumes[0].lost;
    assert!(
        lost.iter()
            .any(|line| line.starts_with("/workspaces/site: not pushed: ")),
        "{seen:?}"
    );
}

#[test]
fn worktrees_are_found_wherever_the_volume_was_mounted() {
    let bed = Bed::new();
    let worktree = bed.volume().join("wt");
    bed.git(
        &bed.site(),
        &[
            "worktree",
            "add",
            "-q",
            "--detach",
            worktree.to_str().unwrap(),
        ],
    );
    fs::write(
        worktree.join(".git"),
        "gitdir: /workspaces/site/.git/worktrees/wt\n",
    )
    .unwrap();
    bed.nothing();
    fs::write(worktree.join("draft"), "").unwrap();
    assert_eq!(bed.lost(), "/workspaces/wt: not committed: ?? draft");
    fs::remove_file(worktree.join("draft")).unwrap();
    let git = bed.site().join(".git/worktrees/wt");
    let tree = bed.git(
        &bed.site(),
        &["commit-tree", "-p", "HEAD", "-m", "Afloat", "HEAD^{tree}"],
    );
    fs::write(git.join("HEAD"), tree).unwrap();
    assert!(bed.lost().ends_with(" Afloat"), "{}", bed.lost());
    fs::remove_dir_all(worktree).unwrap();
    assert!(
        bed.lost().ends_with(" Afloat"),
        "its files are gone, its commit is not"
    );
}

#[test]
fn a_branch_of_a_submodule_is_found() {
    let bed = Bed::new();
    let remote = bed.directory.path().join("remote.git");
    bed.git(
        &bed.site(),
        &[
            "submodule",
            "--quiet",
            "add",
            remote.to_str().unwrap(),
            "lib",
        ],
    );
    let lib = bed.site().join("lib");
    bed.git(
        &lib,
        &["remote", "set-url", "origin", "https://github.com/acme/lib"],
    );
    bed.commit(&bed.site(), "With lib");
    bed.git(
        &bed.site(),
        &["update-ref", "refs/remotes/origin/main", "main"],
    );
    bed.nothing();
    let head = bed.git(&lib, &["rev-parse", "HEAD"]);
    bed.git(&lib, &["checkout", "-q", "-b", "mine"]);
    bed.commit(&lib, "In lib");
    bed.git(&lib, &["checkout", "-q", "--detach", head.trim()]);
    assert!(
        bed.lost().contains(".git/modules/lib: not pushed: "),
        "{}",
        bed.lost()
    );
    bed.git(&lib, &["branch", "-q", "-D", "mine"]);
    bed.nothing();
    fs::write(lib.join("draft"), "").unwrap();
    assert_eq!(bed.lost(), "/workspaces/site/lib: not committed: ?? draft");
}

#[test]
fn what_git_ignores_counts_where_no_tool_makes_it() {
    let bed = Bed::new();
    fs::write(bed.site().join(".env"), "").unwrap();
    assert_eq!(bed.lost(), "/workspaces/site: ignored by git: .env");
    assert_eq!(
        bed.seen_since(i64::MAX).volumes[0].lost,
        [""; 0],
        "the spawn's own"
    );
    fs::remove_file(bed.site().join(".env")).unwrap();
    fs::create_dir_all(bed.site().join("secrets/__pycache__")).unwrap();
    fs::write(bed.site().join("secrets/__pycache__/x.pyc"), "").unwrap();
    bed.nothing();
    fs::write(bed.site().join("secrets/key"), "").unwrap();
    assert_eq!(
        bed.lost(),
        "/workspaces/site: ignored by git: secrets/ (1 file)"
    );
}

#[test]
fn what_git_was_told_to_overlook_counts() {
    let bed = Bed::new();
    bed.git(
        &bed.site(),
        &["update-index", "--skip-worktree", ".gitignore"],
    );
    fs::write(bed.site().join(".gitignore"), "mine\n").unwrap();
    assert_eq!(
        bed.lost(),
        "/workspaces/site: hidden from git status: .gitignore"
    );
}

#[test]
fn files_beside_the_clone_count() {
    let bed = Bed::new();
    fs::create_dir(bed.volume().join("notes")).unwrap();
    fs::write(bed.volume().join("notes/today"), "").unwrap();
    assert_eq!(bed.lost(), "in no repository: /workspaces/notes/today");
}

#[test]
fn what_git_cannot_read_is_not_nothing() {
    let closed = |bed: &Bed| {
        let seen = bed.seen();
        assert!(!seen.volumes[0].closed.is_empty(), "{seen:?}");
    };
    let bed = Bed::new();
    fs::write(bed.site().join(".git/HEAD"), "garbage").unwrap();
    closed(&bed);

    let bed = Bed::new();
    fs::write(
        bed.site().join(".git/refs/heads/main"),
        format!("{}\n", "1".repeat(40)),
    )
    .unwrap();
    closed(&bed);

    let bed = Bed::new();
    fs::remove_dir_all(bed.site().join(".git")).unwrap();
    fs::write(bed.site().join(".git"), "gitdir: /home/vscode/site.git\n").unwrap();
    closed(&bed);

    let bed = Bed::new();
    fs::remove_file(bed.site().join(".git/HEAD")).unwrap();
    let fifo = Command::new("mkfifo")
        .arg(bed.site().join(".git/HEAD"))
        .status();
    assert!(fifo.unwrap().success());
    fs::remove_dir_all(bed.site().join(".git/objects")).unwrap();
    closed(&bed);
}

#[test]
fn a_link_leads_nowhere_else() {
    let bed = Bed::new();
    let outside = bed.directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "").unwrap();
    symlink(&outside, bed.volume().join("link")).unwrap();
    assert_eq!(bed.lost(), "in no repository: /workspaces/link");
}

#[test]
fn what_is_missing_is_not_fetched_by_a_program_of_the_repositorys() {
    let bed = Bed::new();
    let ran = bed.directory.path().join("ran");
    fs::write(bed.site().join("more"), "more").unwrap();
    bed.commit(&bed.site(), "More");
    let first = bed.git(&bed.site(), &["rev-parse", "HEAD~1"]);
    let (start, rest) = first.trim().split_at(2);
    fs::remove_file(bed.site().join(format!(".git/objects/{start}/{rest}"))).unwrap();
    let fetch = format!("ext::sh -c touch% {}", ran.display());
    for (key, value) in [
        ("core.repositoryformatversion", "1"),
        ("extensions.partialClone", "elsewhere"),
        ("remote.elsewhere.promisor", "true"),
        ("remote.elsewhere.url", fetch.as_str()),
        ("protocol.ext.allow", "always"),
    ] {
        bed.git(&bed.site(), &["config", key, value]);
    }
    let seen = bed.seen();
    assert!(!seen.volumes[0].closed.is_empty(), "{seen:?}");
    assert!(!ran.exists(), "a program ran");
}

#[test]
fn no_program_of_the_repositorys_is_run() {
    let bed = Bed::new();
    let ran = bed.directory.path().join("ran");
    let run = format!("touch {}; cat", ran.display());
    for key in [
        "core.fsmonitor",
        "core.pager",
        "core.sshCommand",
        "filter.odd.clean",
        "filter.odd.process",
        "filter.lfs.process",
        "filter.lfs.clean",
        "gpg.program",
        "diff.external",
        "alias.status",
    ] {
        bed.git(&bed.site(), &["config", key, &run]);
    }
    let more = bed.directory.path().join("more");
    fs::write(
        &more,
        format!("[filter \"more\"]\nclean = {run:?}\nrequired = true\n"),
    )
    .unwrap();
    bed.git(
        &bed.site(),
        &["config", "include.path", more.to_str().unwrap()],
    );
    bed.git(&bed.site(), &["config", "log.showSignature", "true"]);
    let hooks = bed.site().join(".git/hooks");
    fs::create_dir_all(&hooks).unwrap();
    for hook in ["post-index-change", "reference-transaction"] {
        fs::write(hooks.join(hook), format!("#!/bin/sh\n{run}\n")).unwrap();
        fs::set_permissions(hooks.join(hook), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::write(
        bed.site().join(".git/info/attributes"),
        "*.a filter=odd\n*.b filter=more\n*.c filter=lfs\n",
    )
    .unwrap();
    for name in ["x.a", "x.b", "x.c"] {
        fs::write(bed.site().join(name), "x").unwrap();
    }
    // Stale for git, so that it has to read the file through its filter.
    for name in ["x.a", "x.b", "x.c"] {
        let hash = bed.git(&bed.site(), &["hash-object", "-w", "--no-filters", name]);
        let entry = format!("100644,{},{name}", hash.trim());
        bed.git(
            &bed.site(),
            &["update-index", "--add", "--cacheinfo", &entry],
        );
    }
    let _ = fs::remove_file(&ran);
    bed.seen();
    assert!(!ran.exists(), "a program of the repository's ran");
}

#[test]
fn a_file_of_lfs_is_its_pointer() {
    let bed = Bed::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\n\
        oid sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\nsize 5\n";
    fs::write(bed.site().join(".gitattributes"), "*.bin filter=lfs\n").unwrap();
    fs::write(bed.site().join("data.bin"), pointer).unwrap();
    bed.commit(&bed.site(), "Data");
    bed.git(
        &bed.site(),
        &["update-ref", "refs/remotes/origin/main", "main"],
    );
    // As git-lfs leaves it: the index has the pointer, with the size and the time of the file.
    let kept = bed.directory.path().join("pointer");
    fs::write(&kept, pointer).unwrap();
    let clean = format!("filter.lfs.clean=cat >/dev/null; cat {}", kept.display());
    let touch = |text: &str, at: u64| {
        fs::write(bed.site().join("data.bin"), text).unwrap();
        let file = fs::File::open(bed.site().join("data.bin")).unwrap();
        let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(at);
        file.set_modified(then).unwrap();
    };
    touch(pointer, 1);
    bed.nothing();
    touch("hello", 2);
    bed.git(&bed.site(), &["-c", &clean, "add", "data.bin"]);
    touch("hello", 3);
    bed.nothing();
    touch("jello", 4);
    assert_eq!(bed.lost(), "/workspaces/site: not committed:  M data.bin");
}

#[test]
fn what_there_is_is_counted_by_its_kind() {
    let bed = Bed::new();
    let counts = |bed: &Bed| bed.seen().volumes[0].counts;
    assert_eq!(counts(&bed), Counts::default());
    fs::write(bed.site().join("one"), "1").unwrap();
    bed.git(&bed.site(), &["stash", "-q", "--include-untracked"]);
    for number in 0..25 {
        bed.commit(&bed.site(), &format!("Commit {number}"));
    }
    fs::write(bed.site().join("two"), "2").unwrap();
    fs::write(bed.site().join(".env"), "3").unwrap();
    fs::write(bed.volume().join("loose"), "4").unwrap();
    let expected = Counts {
        uncommitted: 3,
        unpushed: 25,
        stashed: 1,
    };
    assert_eq!(counts(&bed), expected);
}
