//! One mint for one owner: find the installation, ask for exactly the scope, and cope with
//! repositories that were renamed or are gone.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;
use reqwest::Method;
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::audit::{Audit, Subject};
use super::budget::Budget;
use super::failure::Failure;
use super::github::{Answer, Auth, Github};
use super::token::{Ask, Named, Token, fingerprint};
use crate::drone::permission::{Access, Permission};
use crate::repo::RepoId;
use crate::secret::Secret;

/// How many repositories are asked about at once.
const PROBES: usize = 8;

/// A token, and which repositories of the scope it is for.
#[derive(Debug)]
pub struct Minted {
    /// The token.
    pub token: Token,
    /// What is told of it: the repositories' names at GitHub now.
    pub repositories: Vec<String>,
    /// The repositories of the scope that it covers.
    pub covers: Vec<RepoId>,
}

impl Minted {
    /// What is written down of it.
    pub fn subject(&self) -> Subject {
        Subject {
            repositories: self.repositories.clone(),
            permissions: self.token.permissions().clone(),
            expires_at: Some(self.token.expires_at()),
            sha256: self.token.sha256().to_owned(),
        }
    }
}

/// What stays known of an owner from one mint to the next.
#[derive(Debug, Default, Clone)]
pub struct Known {
    installation: Option<u64>,
    /// Repositories whose name is another by now.
    renamed: BTreeMap<RepoId, String>,
}

/// A mint under way.
pub struct Mint<'a> {
    /// GitHub.
    pub github: &'a Github,
    /// Where it is written down.
    pub audit: &'a Audit,
    /// Whether it may be at all.
    pub budget: &'a Budget,
    /// The repositories' owner.
    pub owner: &'a str,
    /// The scope's repositories of this owner.
    pub repositories: &'a [RepoId],
    /// The scope's permissions.
    pub permissions: &'a BTreeMap<Permission, Access>,
    /// When there must be an answer.
    pub deadline: Instant,
    /// What is known already.
    pub known: Known,
    /// Tokens that came up and must not live: the caller revokes them.
    pub unwanted: Vec<(Secret, Subject)>,
    /// Repositories that were found to have moved, with their number.
    pub moved: BTreeMap<RepoId, u64>,
    /// Repositories that were found to be gone.
    pub gone: BTreeSet<RepoId>,
}

/// Where a repository of the scope is at GitHub.
enum Standing {
    Present(u64),
    Moved(u64, u64),
    Gone,
}

impl Mint<'_> {
    /// Mints. Afterwards [`Mint::known`] and [`Mint::unwanted`] hold what the caller must keep.
    pub async fn run(&mut self) -> Result<Minted, Failure> {
        let mut looked_up = false;
        let mut probed = false;
        loop {
            let installation = if let Some(installation) = self.known.installation {
                installation
            } else {
                looked_up = true;
                self.look_up().await?
            };
            if !self.moved.is_empty()
                && let Some(minted) = self.learn_names(installation).await?
            {
                return Ok(minted);
            }
            let answer = self.ask(installation, self.by_name()).await?;
            match answer.status {
                201 => return self.take(&answer, self.by_name()),
                // The App was removed and installed again since it was looked up.
                404 if !looked_up => self.known.installation = None,
                422 if !probed => {
                    probed = true;
                    if !self.probe().await? {
                        return Err(answer.refusal());
                    }
                }
                _ => return Err(answer.refusal()),
            }
        }
    }

    /// Finds the owner's installation through the first of its repositories that has one. (Of
    /// the three look-ups that GitHub offers this one works for users and organisations alike.)
    async fn look_up(&mut self) -> Result<u64, Failure> {
        for repo in self.repositories {
            let installation = match self.standing(repo).await? {
                Standing::Present(installation) => installation,
                Standing::Moved(installation, number) => {
                    self.moved.insert(repo.clone(), number);
                    installation
                }
                Standing::Gone => continue,
            };
            self.known.installation = Some(installation);
            return Ok(installation);
        }
        Err(Failure::Refused {
            status: 404,
            message: format!(
                "the App is not installed for {}, or not on its repositories in this drone's \
                 scope; install it there, in the App's settings under \"Install App\"",
                self.owner
            ),
        })
    }

    /// Asks where each repository is. Whether that changed anything.
    async fn probe(&mut self) -> Result<bool, Failure> {
        self.known.renamed.clear();
        let mut standings = Vec::with_capacity(self.repositories.len());
        for some in self.repositories.chunks(PROBES) {
            standings.extend(try_join_all(some.iter().map(|repo| self.standing(repo))).await?);
        }
        for (repo, standing) in self.repositories.iter().zip(standings) {
            match standing {
                Standing::Present(_) => {}
                Standing::Moved(_, number) => {
                    self.moved.insert(repo.clone(), number);
                }
                Standing::Gone => {
                    self.gone.insert(repo.clone());
                }
            }
        }
        if self.gone.len() == self.repositories.len() {
            return Ok(false);
        }
        for repo in &self.gone {
            self.audit.gone(&repo.to_string());
        }
        Ok(!self.gone.is_empty() || !self.moved.is_empty())
    }

    /// Where this repository is. One that went to another owner is not the scope's any more.
    async fn standing(&self, repo: &RepoId) -> Result<Standing, Failure> {
        #[derive(Deserialize)]
        struct Installation {
            id: u64,
            account: Option<Account>,
        }
        #[derive(Deserialize)]
        struct Account {
            login: Option<String>,
        }
        let url = self
            .github
            .url(&["repos", repo.owner(), repo.name(), "installation"]);
        let answer = self
            .github
            .call(Method::GET, url, Auth::App, None, self.deadline)
            .await?;
        match answer.status {
            200 => {}
            404 => return Ok(Standing::Gone),
            _ => return Err(answer.refusal()),
        }
        let installation: Installation = serde_json::from_slice(&answer.body)
            .map_err(|_| Failure::Unusable("it is not the JSON of an installation"))?;
        let login = installation.account.and_then(|account| account.login);
        if !login.is_some_and(|login| login.eq_ignore_ascii_case(self.owner)) {
            return Ok(Standing::Gone);
        }
        Ok(match answer.moved_to.as_ref().map(number_in) {
            None => Standing::Present(installation.id),
            Some(Some(number)) => Standing::Moved(installation.id, number),
            Some(None) => Standing::Gone,
        })
    }

    /// Learns the names of the repositories that moved, by a token for them alone. It is the
    /// one wanted where no others are left.
    async fn learn_names(&mut self, installation: u64) -> Result<Option<Minted>, Failure> {
        let moved = std::mem::take(&mut self.moved);
        let numbers = Named::Numbers(moved.values().copied().collect());
        let answer = self.ask(installation, numbers.clone()).await?;
        if answer.status != 201 {
            self.gone.extend(moved.into_keys());
            return Ok(None);
        }
        let token = self.grant(&answer, numbers)?;
        for granted in token.repositories().unwrap_or_default() {
            let moved = moved.iter().find(|(_, n)| granted.number == Some(**n));
            if let (Some((repo, _)), Some(name)) = (moved, &granted.name) {
                let name = name.name().to_owned();
                self.known.renamed.insert(repo.clone(), name);
            }
        }
        let unnamed = |repo: &&RepoId| !self.known.renamed.contains_key(*repo);
        let gone: Vec<RepoId> = moved.keys().filter(unnamed).cloned().collect();
        self.gone.extend(gone);
        let wanted = self.present().all(|repo| moved.contains_key(repo));
        let minted = self.minted(token);
        if wanted {
            return Ok(Some(minted));
        }
        let secret = minted.token.secret().clone();
        self.unwanted.push((secret, minted.subject()));
        Ok(None)
    }

    fn present(&self) -> impl Iterator<Item = &RepoId> {
        self.repositories
            .iter()
            .filter(|repo| !self.gone.contains(repo))
    }

    /// The repository's name at GitHub now.
    fn name_now<'a>(&'a self, repo: &'a RepoId) -> &'a str {
        self.known
            .renamed
            .get(repo)
            .map_or(repo.name(), String::as_str)
    }

    fn by_name(&self) -> Named {
        Named::Names(
            self.present()
                .map(|repo| self.name_now(repo).to_owned())
                .collect(),
        )
    }

    fn asking(&self, repositories: Named) -> Ask {
        Ask {
            owner: self.owner.to_owned(),
            repositories,
            permissions: self.permissions.clone(),
        }
    }

    async fn ask(&self, installation: u64, repositories: Named) -> Result<Answer, Failure> {
        let now = || self.github.time().steady();
        self.budget.check(now())?;
        let url = self.github.url(&[
            "app",
            "installations",
            &installation.to_string(),
            "access_tokens",
        ]);
        let body = self.asking(repositories).to_json();
        let answer = self
            .github
            .call(Method::POST, url, Auth::App, Some(&body), self.deadline)
            .await;
        match &answer {
            Ok(answer) if answer.status != 201 => {}
            Err(Failure::Limited(_)) => {}
            // Where the answer was lost, there may be a token all the same.
            _ => self.budget.spend(now()),
        }
        answer
    }

    fn take(&mut self, answer: &Answer, repositories: Named) -> Result<Minted, Failure> {
        let token = self.grant(answer, repositories)?;
        Ok(self.minted(token))
    }

    fn grant(&mut self, answer: &Answer, repositories: Named) -> Result<Token, Failure> {
        let now = self.github.time().now();
        Token::from_grant(&answer.body, &self.asking(repositories), now).map_err(|rejected| {
            let asked = Subject {
                repositories: self.present().map(ToString::to_string).collect(),
                permissions: self.permissions.clone(),
                expires_at: None,
                sha256: rejected.token.as_ref().map(fingerprint).unwrap_or_default(),
            };
            self.audit.rejected(&asked, &rejected.why);
            self.unwanted
                .extend(rejected.token.map(|secret| (secret, asked)));
            Failure::Rejected(rejected.why)
        })
    }

    /// What GitHub granted is what is told; where it does not say, it is what was asked.
    fn minted(&self, token: Token) -> Minted {
        let now = |repo: &RepoId| format!("{}/{}", repo.owner(), self.name_now(repo));
        let (repositories, covers) = match token.repositories() {
            None => (
                self.present().map(now).collect(),
                self.present().cloned().collect(),
            ),
            Some(granted) => {
                let names: Vec<&RepoId> = granted.iter().filter_map(|g| g.name.as_ref()).collect();
                let covered = |repo: &&RepoId| {
                    let name = self.name_now(repo);
                    names.iter().any(|n| n.name().eq_ignore_ascii_case(name))
                };
                (
                    names.iter().map(ToString::to_string).collect(),
                    self.present().filter(covered).cloned().collect(),
                )
            }
        };
        let minted = Minted {
            token,
            repositories,
            covers,
        };
        self.audit.minted(&minted.subject());
        minted
    }
}

/// The repository's number in the URL that GitHub's redirects lead to:
/// `/repositories/NUMBER/installation`.
fn number_in(url: &Url) -> Option<u64> {
    let mut segments = url.path_segments()?;
    segments.find(|segment| *segment == "repositories")?;
    segments.next()?.parse().ok()
}
