//! Finds the devcontainer.json of a repository.

use std::path::{Path, PathBuf};

use super::checkout::{BadPath, Checkout};
use crate::error::{Code, Error, Result};

/// Says in a hint that trust does not let this pass.
pub const NO_TRUST_HELPS: &str = "neither `--trust` nor `devcontainer.trust` helps here";
/// How many entries of `.devcontainer` are searched for variants; more than any repository has.
const MAX_VARIANTS: usize = 1000;

/// Finds the devcontainer.json in a checkout, as an absolute path without symlinks; `None` if there is none.
///
/// `.devcontainer/devcontainer.json`, else `.devcontainer.json`, else the only
/// `.devcontainer/NAME/devcontainer.json`. `choice` is such a NAME or a path in the repository. Fails if there
/// are several to choose from, if the choice does not exist, or if the path leads out of the checkout.
pub fn locate(checkout: &Path, choice: Option<&str>) -> Result<Option<PathBuf>> {
    let checkout = Checkout::open(checkout)?;
    if let Some(choice) = choice {
        return chosen(&checkout, choice).map(Some);
    }
    for path in [".devcontainer/devcontainer.json", ".devcontainer.json"] {
        if let Some(found) = present(&checkout, path)? {
            return Ok(Some(found));
        }
    }
    let names = variants(&checkout)?;
    match names.as_slice() {
        [] => Ok(None),
        [name] => present(&checkout, &variant(name)),
        _ => Err(ambiguous("the repository has several", &names)),
    }
}

fn variant(name: &str) -> String {
    format!(".devcontainer/{name}/devcontainer.json")
}

fn chosen(checkout: &Checkout, choice: &str) -> Result<PathBuf> {
    let is_name = !choice.is_empty() && !choice.contains('/') && !choice.starts_with('.');
    let candidates = [is_name.then(|| variant(choice)), Some(choice.to_owned())];
    for path in candidates.into_iter().flatten() {
        if let Some(found) = present(checkout, &path)?
            && found.is_file()
        {
            return Ok(found);
        }
    }
    let names = variants(checkout)?;
    Err(ambiguous(
        &format!("the repository has no devcontainer.json {choice:?}"),
        &names,
    ))
}

fn ambiguous(what: &str, names: &[String]) -> Error {
    let message = if names.is_empty() {
        what.to_owned()
    } else {
        format!("{what}: {}", names.join(", "))
    };
    Error::new(Code::DevcontainerAmbiguous, message).hint(match names.first() {
        Some(name) => format!("choose one with `--config NAME`, such as `--config {name}`"),
        None => "leave out `--config`, or give a path within the repository".to_owned(),
    })
}

/// The file, if it is there; refused where it is not the repository's own.
fn present(checkout: &Checkout, path: &str) -> Result<Option<PathBuf>> {
    match checkout.inside(checkout.root(), path) {
        Ok(found) => Ok(Some(found)),
        Err(BadPath::Missing) => Ok(None),
        Err(BadPath::Outside) => Err(Error::new(
            Code::GateRefused,
            format!("{path} points outside the repository, at this server's own files"),
        )
        .hint(format!(
            "put the file itself into the repository; {NO_TRUST_HELPS}"
        ))),
    }
}

fn variants(checkout: &Checkout) -> Result<Vec<String>> {
    let Some(directory) = present(checkout, ".devcontainer")? else {
        return Ok(Vec::new());
    };
    let Ok(entries) = std::fs::read_dir(&directory) else {
        return Ok(Vec::new());
    };
    let mut names: Vec<String> = entries
        .take(MAX_VARIANTS)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| directory.join(name).join("devcontainer.json").is_file())
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn checkout(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "{}").unwrap();
        }
        root
    }

    fn found(root: &tempfile::TempDir, choice: Option<&str>) -> Result<Option<String>> {
        let real = root.path().canonicalize().unwrap();
        let path = locate(root.path(), choice)?;
        Ok(path.map(|path| path.strip_prefix(&real).unwrap().display().to_string()))
    }

    const FOLDER: &str = ".devcontainer/devcontainer.json";
    const BARE: &str = ".devcontainer.json";
    const A: &str = ".devcontainer/a/devcontainer.json";
    const B: &str = ".devcontainer/b/devcontainer.json";

    #[test]
    fn the_places_have_an_order() {
        for (files, expected) in [
            (vec![FOLDER, BARE, A, B], Some(FOLDER)),
            (vec![BARE, A, B], Some(BARE)),
            (vec![A], Some(A)),
            (vec!["README.md"], None),
            (vec![".devcontainer/a/b/devcontainer.json"], None),
        ] {
            let root = checkout(&files);
            assert_eq!(
                found(&root, None).unwrap().as_deref(),
                expected,
                "{files:?}"
            );
        }
    }

    #[test]
    fn several_need_a_choice_and_are_listed() {
        let root = checkout(&[A, B]);
        let error = found(&root, None).unwrap_err();
        assert_eq!(error.code(), Code::DevcontainerAmbiguous);
        assert!(error.message().ends_with("a, b"), "{}", error.message());
        assert!(error.what_next().unwrap().contains("--config a"));
        for choice in ["b", B, "./.devcontainer/b/devcontainer.json"] {
            assert_eq!(
                found(&root, Some(choice)).unwrap().as_deref(),
                Some(B),
                "{choice}"
            );
        }
        for choice in ["c", "", ".", "..", "a/b"] {
            let error = found(&root, Some(choice)).unwrap_err();
            let expected = if choice == ".." {
                Code::GateRefused
            } else {
                Code::DevcontainerAmbiguous
            };
            assert_eq!(error.code(), expected, "{choice:?}");
        }
    }

    #[test]
    fn a_symlink_out_of_the_repository_is_refused() {
        let elsewhere = checkout(&["devcontainer.json"]);
        for link in [FOLDER, BARE, ".devcontainer"] {
            let root = checkout(&["x"]);
            let path = root.path().join(link);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let target = if link == ".devcontainer" {
                elsewhere.path().to_path_buf()
            } else {
                elsewhere.path().join("devcontainer.json")
            };
            std::os::unix::fs::symlink(target, path).unwrap();
            assert_eq!(
                found(&root, None).unwrap_err().code(),
                Code::GateRefused,
                "{link}"
            );
        }
    }
}
