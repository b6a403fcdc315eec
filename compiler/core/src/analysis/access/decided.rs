//! What the rules of one service decide together: who gets in whatever they send, which rules are
//! overruled, and which paths are refused in one spelling only.

use mesh_bundle::slice::{Condition, Effect, Enforcement, PathPattern, PathPatternKind, Principal};

use super::enforced;
use super::undecided::{Asked, Question};
use crate::analysis::probe::{self, Probe};
use crate::analysis::request_space::{CapExceeded, Likely, Point, Space};
use crate::analysis::{connections, entrance};
use crate::linked::{LinkedMesh, Service};

/// A rule that admits, each request of which is refused again.
#[derive(Clone, Debug)]
pub struct Overruled {
    /// The rule.
    pub rule: usize,
    /// The rules that refuse its requests, none of which could be left out.
    pub by: Vec<usize>,
    /// A request that it admits and that is refused.
    pub witness: Option<Point>,
}

/// A rule that refuses a path and not another spelling of it.
#[derive(Clone, Debug)]
pub struct Bypass {
    /// The rule.
    pub rule: usize,
    /// The condition on the path, as a position in the rule.
    pub condition: usize,
    /// What differs.
    pub spelling: Spelling,
    /// A request with the other spelling that is let in.
    pub witness: Point,
}

/// How a path can be written otherwise and mean the same to many servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// With a slash at the end.
    TrailingSlash,
    /// With other letters in capitals.
    Case,
}

/// Who may send whatever it likes.
#[derive(Clone, Debug)]
pub struct Open {
    /// Also peers without an identity.
    pub unauthenticated: bool,
    /// The rules that admit it, none of which could be left out.
    pub rules: Vec<usize>,
    /// Such a request of a stranger.
    pub witness: Option<Point>,
}

/// The rules of one service together.
pub(super) struct Decided<'m> {
    pub(super) service: &'m Service,
    pub(super) probe: &'m Probe,
    /// What each rule speaks of, on the ports of the service; none where that is too large to say.
    pub(super) spaces: &'m [Option<Space>],
    /// Where is noted what remains open.
    pub(super) asked: &'m Asked,
}

impl Decided<'_> {
    /// The enforced rules of one effect that are not too large; none if one of them is.
    fn rules(&self, effect: Effect) -> Option<Vec<(usize, &Space)>> {
        let rules = self.service.access.iter().zip(self.spaces).enumerate();
        rules
            .filter(|(_, (rule, _))| {
                rule.effect == effect && rule.enforcement == Enforcement::Enforce
            })
            .map(|(index, (_, space))| Some((index, space.as_ref()?)))
            .collect()
    }

    pub(super) fn overruled(&self) -> Vec<Overruled> {
        let (Some(allows), Some(denies)) = (self.rules(Effect::Allow), self.rules(Effect::Deny))
        else {
            return Vec::new();
        };
        if denies.is_empty() {
            return Vec::new();
        }
        let overruled = |(rule, space): &(usize, &Space)| {
            if space.is_empty() {
                return None;
            }
            let by = smallest(&denies, |denies| Ok(space.remainder(denies, 1)?.is_empty()));
            let by = self.asked.known(Question::Rule(*rule), by)??;
            let witness = space.pick(self.probe.likely()).ok().flatten();
            let shows = |point: &Point| {
                self.probe.takes(*rule, point) && self.probe.is_allowed(point) == Some(false)
            };
            Some(Overruled {
                rule: *rule,
                by,
                witness: witness.filter(shows),
            })
        };
        allows.iter().filter_map(overruled).collect()
    }

    pub(super) fn is_closed(&self) -> bool {
        let (Some(allows), Some(denies)) = (self.rules(Effect::Allow), self.rules(Effect::Deny))
        else {
            return false;
        };
        let denies: Vec<&Space> = denies.iter().map(|(_, space)| *space).collect();
        let is_refused = |space: &Space| {
            let left = space.remainder(&denies, 1);
            let left = self.asked.known(Question::Service, left);
            left.is_some_and(|left| left.is_empty())
        };
        !allows.is_empty() && allows.iter().all(|(_, space)| is_refused(space))
    }

    /// Only rules for many callers can together admit everybody, and most services have none.
    pub(super) fn open(
        &self,
        mesh: &LinkedMesh,
        ports: &Space,
    ) -> Result<Option<Open>, CapExceeded> {
        let domain = format!("spiffe://{}/", mesh.trust_domain.value);
        let is_wide = |who: &Principal| match who {
            Principal::Any | Principal::Unauthenticated => true,
            Principal::SpiffePrefix(prefix) => domain.starts_with(prefix.as_str()),
            Principal::SpiffeId(_) => false,
        };
        let wide = enforced(self.service, Effect::Allow).any(|rule| rule.who.iter().any(is_wide));
        if !wide {
            return Ok(None);
        }
        let (Some(allows), Some(denies)) = (self.rules(Effect::Allow), self.rules(Effect::Deny))
        else {
            return Ok(None);
        };
        for (unauthenticated, who) in [
            (true, Principal::Unauthenticated),
            (false, Principal::SpiffePrefix(domain.clone())),
        ] {
            // Strangers whom a port never meets send it nothing.
            let space = Space::from(&[who])?
                .intersection(ports)?
                .intersection(&entrance::met(self.service)?)?;
            if space.is_empty() {
                continue;
            }
            let mut refused = false;
            for (_, deny) in &denies {
                refused = refused || !space.intersection(deny)?.is_empty();
            }
            if refused {
                continue;
            }
            let admit = |chosen: &[&Space]| Ok(space.remainder(chosen, 1)?.is_empty());
            let Some(rules) = smallest(&allows, admit)? else {
                continue;
            };
            let likely = Likely {
                callers: Vec::new(),
                ..self.probe.likely().clone()
            };
            let witness = space.pick(&likely).ok().flatten();
            return Ok(Some(Open {
                unauthenticated,
                rules,
                witness: witness.filter(|point| self.probe.is_allowed(point) == Some(true)),
            }));
        }
        Ok(None)
    }

    /// For every `deny` of an exact path, whether another spelling of it gets in.
    pub(super) fn bypassed(&self, ports: &Space) -> Vec<Bypass> {
        let mut found = Vec::new();
        for (index, rule) in self.service.access.iter().enumerate() {
            if rule.effect != Effect::Deny || rule.enforcement != Enforcement::Enforce {
                continue;
            }
            for (position, condition) in rule.conditions.iter().enumerate() {
                let Condition::Path(patterns) = &condition.value else {
                    continue;
                };
                let spelled = |spelling| {
                    let other = otherwise(patterns, spelling)?;
                    let mut rule = probe::access_rule(rule);
                    *rule.conditions.get_mut(position)? = other;
                    let space = connections::spoken_of(self.service, &rule)
                        .and_then(|space| space.intersection(ports));
                    let space = self.asked.known(Question::Rule(index), space)?;
                    let witness = space
                        .samples(self.probe.likely(), BYPASSES_MAX)
                        .filter_map(Result::ok)
                        .find(|point| self.probe.is_allowed(point) == Some(true))?;
                    Some(Bypass {
                        rule: index,
                        condition: position,
                        spelling,
                        witness,
                    })
                };
                let spellings = [Spelling::TrailingSlash, Spelling::Case];
                found.extend(spellings.into_iter().find_map(spelled));
            }
        }
        found
    }
}

/// Requests that are tried as a way around a rule.
const BYPASSES_MAX: usize = 16;

/// The exact paths of a condition in another spelling; nothing if there are none.
fn otherwise(patterns: &[PathPattern], spelling: Spelling) -> Option<Condition> {
    let is_exact = |text: &&String| !text.contains(['*', '{']) && text.len() > 1;
    let texts = patterns.iter().filter_map(|pattern| match &pattern.kind {
        PathPatternKind::Template(text) => Some((text, pattern.ignore_case)),
        PathPatternKind::Regex(_) => None,
    });
    let others: Vec<PathPattern> = texts
        .filter(|(text, _)| is_exact(text))
        .filter_map(|(text, ignore_case)| {
            let text = match spelling {
                Spelling::TrailingSlash => format!("{}/", text.strip_suffix('/').unwrap_or(text)),
                Spelling::Case if ignore_case => return None,
                Spelling::Case => in_capitals(text)?,
            };
            Some(PathPattern {
                kind: PathPatternKind::Template(text),
                ignore_case,
            })
        })
        .collect();
    (!others.is_empty()).then_some(Condition::Path(others))
}

/// With its first small letter in capitals; escapes stay as they are.
fn in_capitals(text: &str) -> Option<String> {
    if text.contains('%') {
        return None;
    }
    let at = text.find(|letter: char| letter.is_ascii_lowercase())?;
    let mut other = text.to_owned();
    other.get_mut(at..=at)?.make_ascii_uppercase();
    Some(other)
}

/// The numbers of a part of some spaces that does and that could not be smaller; none if not even all of
/// them do. Where it is too large to say whether a smaller part does, the larger one stays.
pub(super) fn smallest(
    all: &[(usize, &Space)],
    does: impl Fn(&[&Space]) -> Result<bool, CapExceeded>,
) -> Result<Option<Vec<usize>>, CapExceeded> {
    if !does(&spaces(all))? {
        return Ok(None);
    }
    let mut chosen = all.to_vec();
    let mut index = 0;
    while index < chosen.len() {
        let mut without = chosen.clone();
        without.remove(index);
        if does(&spaces(&without)).unwrap_or(false) {
            chosen = without;
        } else {
            index += 1;
        }
    }
    Ok(Some(chosen.into_iter().map(|(number, _)| number).collect()))
}

fn spaces<'s>(chosen: &[(usize, &'s Space)]) -> Vec<&'s Space> {
    chosen.iter().map(|(_, space)| *space).collect()
}
