//! Follows one ref of one repository, forward only. It decides which commit is judged next and
//! remembers why one was refused; it neither compiles nor publishes.

use std::path::PathBuf;

use mesh_bundle::order::Order;
use mesh_repo::{CommitId, HistoryError, Repository};

use crate::finding::Finding;
use crate::limits;
use crate::output::chain;
use crate::status::{RefReport, RefState, timestamp};

/// What is followed.
#[derive(Clone, Debug)]
pub(crate) struct Followed {
    /// Bare or not.
    pub(crate) repository: PathBuf,
    /// Full name of the ref.
    pub(crate) reference: String,
    /// Epoch of the trust root: only a new one allows rewritten history.
    pub(crate) epoch: u64,
    /// Byte-format number of the compiler: a new one compiles the same commit again.
    pub(crate) emit: u32,
}

/// The last commit that became a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The commit.
    pub(crate) commit: CommitId,
    /// Order of its generation.
    pub(crate) order: Order,
}

/// How judging a commit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// It is served.
    Accepted(Order),
    /// It never will be; the findings say why.
    Refused(Vec<Finding>),
    /// It could not be judged; the next look tries again.
    Failed(String),
}

/// Where following stands, for the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// What was last seen.
    pub(crate) state: RefState,
    /// What the ref names.
    pub(crate) tip: Option<String>,
    /// For people.
    pub(crate) detail: Option<String>,
    /// Why the tip was refused; empty when it was not.
    pub(crate) findings: Vec<Finding>,
}

impl Progress {
    /// Before the first look.
    pub(crate) fn starting() -> Self {
        Self {
            state: RefState::Starting,
            tip: None,
            detail: None,
            findings: Vec::new(),
        }
    }

    fn following(tip: CommitId) -> Self {
        Self {
            state: RefState::Following,
            tip: Some(tip.to_string()),
            ..Self::starting()
        }
    }

    fn trouble(state: RefState, tip: Option<CommitId>, detail: impl Into<String>) -> Self {
        let tip = tip.map(|tip| tip.to_string());
        Self {
            state,
            tip,
            detail: Some(detail.into()),
            findings: Vec::new(),
        }
    }

    /// Why a commit is not served, if it is the tip; it may be given by its first characters.
    pub(crate) fn refusal_of(&self, commit: &str) -> Option<String> {
        let tip = self.tip.as_deref()?;
        if !tip.starts_with(commit)
            || matches!(self.state, RefState::Starting | RefState::Following)
        {
            return None;
        }
        let found = self.findings.first().map(Finding::line);
        found.or_else(|| self.detail.clone())
    }

    /// As the status shows it.
    pub(crate) fn report(&self, reference: &str, since_ms: u64) -> RefReport {
        RefReport {
            name: reference.to_owned(),
            state: self.state,
            tip: self.tip.clone(),
            detail: self.detail.clone(),
            since: timestamp(since_ms),
        }
    }

    /// The findings to show, and how many are left out.
    pub(crate) fn shown_findings(&self) -> (Vec<Finding>, usize) {
        let shown: Vec<_> = self
            .findings
            .iter()
            .take(limits::FINDINGS_MAX)
            .cloned()
            .collect();
        let omitted = self.findings.len() - shown.len();
        (shown, omitted)
    }
}

/// Follows a ref.
#[derive(Debug)]
pub(crate) struct Follower {
    followed: Followed,
    accepted: Option<Accepted>,
    refused: Option<(CommitId, Vec<Finding>)>,
}

impl Follower {
    /// Goes on after the last accepted commit, which outlives a restart.
    pub(crate) fn new(followed: Followed, accepted: Option<Accepted>) -> Self {
        Self {
            followed,
            accepted,
            refused: None,
        }
    }

    /// Looks at the ref once and has its tip judged if that is new.
    pub(crate) fn look(
        &mut self,
        judge: impl FnOnce(&Repository, CommitId) -> Attempt,
    ) -> Progress {
        let repository = match Repository::open(&self.followed.repository) {
            Ok(repository) => repository,
            Err(error) => {
                return Progress::trouble(RefState::RepositoryUnreadable, None, chain(&error));
            }
        };
        let tip = match repository.resolve(&self.followed.reference) {
            Ok(Some(tip)) => tip,
            Ok(None) => return self.missing(),
            Err(error) => {
                return Progress::trouble(RefState::RepositoryUnreadable, None, chain(&error));
            }
        };
        if self.serves(tip) {
            return Progress::following(tip);
        }
        if let Some((refused, findings)) = &self.refused
            && *refused == tip
        {
            return invalid(tip, findings.clone());
        }
        if let Some(rewritten) = self.rewritten(&repository, tip) {
            return rewritten;
        }
        match judge(&repository, tip) {
            Attempt::Accepted(order) => {
                self.accepted = Some(Accepted { commit: tip, order });
                self.refused = None;
                Progress::following(tip)
            }
            Attempt::Refused(findings) => {
                self.refused = Some((tip, findings.clone()));
                invalid(tip, findings)
            }
            Attempt::Failed(detail) => Progress::trouble(RefState::Failed, Some(tip), detail),
        }
    }

    fn serves(&self, tip: CommitId) -> bool {
        self.accepted.is_some_and(|accepted| {
            accepted.commit == tip
                && accepted.order.epoch == self.followed.epoch
                && accepted.order.emit >= self.followed.emit
        })
    }

    fn missing(&self) -> Progress {
        let detail = format!(
            "the repository has no {}; the last generation stays",
            self.followed.reference
        );
        Progress::trouble(RefState::RefMissing, None, detail)
    }

    /// Within an epoch the ref moves forward only. A new epoch is the root's word that it did not.
    fn rewritten(&self, repository: &Repository, tip: CommitId) -> Option<Progress> {
        let accepted = self.accepted?;
        if accepted.order.epoch != self.followed.epoch || accepted.commit == tip {
            return None;
        }
        let message = match repository.is_ancestor(accepted.commit, tip) {
            Ok(true) => return None,
            Ok(false) => format!(
                "{tip} does not descend from {}, the last accepted commit",
                accepted.commit
            ),
            Err(error @ (HistoryError::Shallow | HistoryError::Grafts)) => {
                let state = RefState::RepositoryUnreadable;
                return Some(Progress::trouble(state, Some(tip), chain(&error)));
            }
            // Most likely what was accepted is gone; then nothing can descend from it.
            Err(error) => format!(
                "{tip} cannot be shown to descend from {}, the last accepted commit: {}",
                accepted.commit,
                chain(&error)
            ),
        };
        let detail = "the last generation stays until the ref leads on from it, or the trust root has a new epoch";
        let mut progress = Progress::trouble(RefState::RefRewritten, Some(tip), detail);
        progress.findings = vec![Finding::whole(RefState::RefRewritten.as_str(), message)];
        Some(progress)
    }
}

fn invalid(tip: CommitId, findings: Vec<Finding>) -> Progress {
    let mut progress = Progress::trouble(
        RefState::PolicyInvalid,
        Some(tip),
        "the last generation stays",
    );
    progress.findings = findings;
    progress
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::TestRepository;

    fn followed(repository: &TestRepository) -> Followed {
        Followed {
            repository: repository.path(),
            reference: "refs/heads/main".to_owned(),
            epoch: 0,
            emit: 1,
        }
    }

    fn order(epoch: u64, sequence: u64) -> Order {
        Order {
            epoch,
            sequence,
            emit: 1,
        }
    }

    fn id(commit: git2::Oid) -> CommitId {
        CommitId::from_hex(&commit.to_string()).unwrap()
    }

    /// A look that accepts whatever it is asked about.
    fn accept(follower: &mut Follower) -> RefState {
        let epoch = follower.followed.epoch;
        follower
            .look(|repository, commit| {
                Attempt::Accepted(order(epoch, repository.sequence(commit).unwrap()))
            })
            .state
    }

    /// A look that must not judge anything.
    fn idle(follower: &mut Follower) -> Progress {
        follower.look(|_repository, commit| panic!("{commit} was judged"))
    }

    fn refuse(follower: &mut Follower) -> Progress {
        follower
            .look(|_repository, _commit| Attempt::Refused(vec![Finding::whole("MSH0001", "bad")]))
    }

    #[test]
    fn good_then_bad_then_good() {
        let repository = TestRepository::new();
        let mut follower = Follower::new(followed(&repository), None);
        let first = repository.commit(&[("a", "1")], None);
        repository.push(first);
        assert_eq!(accept(&mut follower), RefState::Following);
        assert_eq!(idle(&mut follower).state, RefState::Following);

        let bad = repository.commit(&[("a", "2")], Some(first));
        repository.push(bad);
        let progress = refuse(&mut follower);
        assert_eq!(progress.state, RefState::PolicyInvalid);
        assert_eq!(progress.findings.len(), 1);
        assert_eq!(
            idle(&mut follower),
            progress,
            "a refused commit is not compiled again"
        );

        repository.push(repository.commit(&[("a", "3")], Some(bad)));
        assert_eq!(accept(&mut follower), RefState::Following);
        assert_eq!(idle(&mut follower).findings, []);
    }

    #[test]
    fn a_failure_of_ours_is_tried_again() {
        let repository = TestRepository::new();
        let mut follower = Follower::new(followed(&repository), None);
        repository.push(repository.commit(&[("a", "1")], None));
        let failed = follower.look(|_repository, _commit| Attempt::Failed("disk full".to_owned()));
        assert_eq!(failed.state, RefState::Failed);
        assert_eq!(failed.detail.as_deref(), Some("disk full"));
        assert_eq!(accept(&mut follower), RefState::Following);
    }

    #[test]
    fn rewritten_history_is_refused_until_the_ref_leads_on() {
        let repository = TestRepository::new();
        let mut follower = Follower::new(followed(&repository), None);
        let first = repository.commit(&[("a", "1")], None);
        let second = repository.commit(&[("a", "2")], Some(first));
        repository.push(second);
        accept(&mut follower);

        // Longer than what was accepted, so that only ancestry can tell.
        let other = repository.commit(
            &[("a", "3")],
            Some(repository.commit(&[("a", "4")], Some(first))),
        );
        repository.push(repository.commit(&[("a", "5")], Some(other)));
        let progress = idle(&mut follower);
        assert_eq!(progress.state, RefState::RefRewritten);
        assert_eq!(progress.findings[0].code, "ref_rewritten");
        assert!(
            progress.findings[0].message.contains(&second.to_string()),
            "{progress:?}"
        );

        // Going back to an ancestor is a rewrite too.
        repository.push(first);
        assert_eq!(idle(&mut follower).state, RefState::RefRewritten);

        repository.push(repository.commit(&[("a", "6")], Some(second)));
        assert_eq!(accept(&mut follower), RefState::Following);
    }

    #[test]
    fn a_bad_commit_may_be_replaced() {
        let repository = TestRepository::new();
        let mut follower = Follower::new(followed(&repository), None);
        let first = repository.commit(&[("a", "1")], None);
        repository.push(first);
        accept(&mut follower);
        repository.push(repository.commit(&[("a", "2")], Some(first)));
        refuse(&mut follower);
        // Nothing was ever served of it, so nothing is taken back.
        repository.push(repository.commit(&[("a", "3")], Some(first)));
        assert_eq!(accept(&mut follower), RefState::Following);
    }

    #[test]
    fn a_restart_remembers_and_a_new_epoch_forgets() {
        let repository = TestRepository::new();
        let first = repository.commit(&[("a", "1")], None);
        let mut last = Accepted {
            commit: id(first),
            order: order(0, 1),
        };
        let accepted = Some(last);
        repository.push(repository.commit(&[("a", "2")], None));

        let mut restarted = Follower::new(followed(&repository), accepted);
        assert_eq!(idle(&mut restarted).state, RefState::RefRewritten);

        let mut new_epoch = followed(&repository);
        new_epoch.epoch = 1;
        assert_eq!(
            accept(&mut Follower::new(new_epoch, accepted)),
            RefState::Following
        );

        last.commit = CommitId::from_hex(&"ab".repeat(20)).unwrap();
        let progress = idle(&mut Follower::new(followed(&repository), Some(last)));
        assert_eq!(
            progress.state,
            RefState::RefRewritten,
            "a commit that is gone proves nothing"
        );
    }

    #[test]
    fn a_new_compiler_compiles_the_same_commit_again() {
        let repository = TestRepository::new();
        let first = repository.commit(&[("a", "1")], None);
        repository.push(first);
        let accepted = Some(Accepted {
            commit: id(first),
            order: order(0, 1),
        });
        assert_eq!(
            idle(&mut Follower::new(followed(&repository), accepted)).state,
            RefState::Following
        );
        let mut newer = followed(&repository);
        newer.emit = 2;
        let mut judged = false;
        Follower::new(newer, accepted).look(|_repository, _commit| {
            judged = true;
            Attempt::Failed(String::new())
        });
        assert!(judged);
    }

    #[test]
    fn a_shallow_clone_is_not_taken_for_a_rewrite() {
        let repository = TestRepository::new();
        let first = repository.commit(&[("a", "1")], None);
        let accepted = Some(Accepted {
            commit: id(first),
            order: order(0, 1),
        });
        let second = repository.commit(&[("a", "2")], Some(first));
        repository.push(second);
        std::fs::write(repository.path().join("shallow"), format!("{second}\n")).unwrap();
        let progress = idle(&mut Follower::new(followed(&repository), accepted));
        assert_eq!(progress.state, RefState::RepositoryUnreadable);
        assert!(progress.detail.unwrap().contains("shallow"));
    }

    #[test]
    fn what_is_missing_is_reported_and_comes_back() {
        let repository = TestRepository::new();
        let mut follower = Follower::new(followed(&repository), None);
        assert_eq!(idle(&mut follower).state, RefState::RefMissing);
        let first = repository.commit(&[("a", "1")], None);
        repository.push(first);
        accept(&mut follower);
        repository.delete();
        assert_eq!(idle(&mut follower).state, RefState::RefMissing);
        repository.push(first);
        assert_eq!(idle(&mut follower).state, RefState::Following);

        let mut gone = followed(&repository);
        gone.repository = repository.path().join("nowhere");
        let progress = idle(&mut Follower::new(gone, None));
        assert_eq!(progress.state, RefState::RepositoryUnreadable);
        assert!(progress.detail.unwrap().contains("not a git repository"));
    }
}
