//! Copies of a request, sent elsewhere, whose answers nobody sees.

use mesh_bundle::slice::{Mirror, Target};

use super::falls_to;

/// The mirrors of a route.
#[derive(Clone, Debug, Default)]
pub struct MirrorPolicy {
    mirrors: Box<[Mirror]>,
}

impl MirrorPolicy {
    pub(crate) fn build(mirrors: &[Mirror]) -> Self {
        Self {
            mirrors: mirrors.into(),
        }
    }

    /// Where copies of this request go; each mirror draws for itself.
    pub fn choose(&self, rng: &mut (impl rand::Rng + ?Sized)) -> Vec<&Target> {
        let drawn = self
            .mirrors
            .iter()
            .filter(|mirror| falls_to(mirror.share, rng));
        drawn.map(|mirror| &mirror.target).collect()
    }

    /// All mirrors, in the order of the slice.
    pub fn mirrors(&self) -> &[Mirror] {
        &self.mirrors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestRng;

    #[test]
    fn a_share_is_a_share() {
        let mirror = |service: &str, share| Mirror {
            target: Target {
                service: service.into(),
                ..Target::default()
            },
            share,
        };
        let policy = MirrorPolicy::build(&[
            mirror("never", 0),
            mirror("always", 10_000),
            mirror("half", 5_000),
        ]);
        let mut rng = TestRng(7);
        let mut halves = 0;
        for _ in 0..1_000 {
            let chosen: Vec<_> = policy
                .choose(&mut rng)
                .into_iter()
                .map(|target| target.service.as_str())
                .collect();
            assert!(
                chosen == ["always"] || chosen == ["always", "half"],
                "{chosen:?}"
            );
            halves += chosen.len() - 1;
        }
        assert!((450..=550).contains(&halves), "{halves}");
    }
}
