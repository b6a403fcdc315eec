//! Two meshes: access gained and lost is real on both sides, and what fails in the middle works before
//! and after.

use mesh_compiler::analysis::entrance::Way;
use mesh_compiler::analysis::probe::Probe;
use mesh_compiler::analysis::request_space::Point;
use mesh_compiler::diff::{Change, access, skew};
use proptest::prelude::*;

use super::{Policy, any_looks, any_port, any_rules, linked, shown};

/// Two policies that differ in some rules.
fn any_change() -> impl Strategy<Value = (Policy, Policy)> {
    any_looks().prop_flat_map(|looks| {
        let rules = || any_rules(&looks);
        let given = (any_port(&looks), Just(looks.clone()));
        (rules(), rules(), rules(), given).prop_map(|(both, before, after, (port, looks))| {
            let with = |some: Vec<String>| Policy {
                looks: looks.clone(),
                port,
                routes: Vec::new(),
                rules: both.iter().cloned().chain(some).collect(),
            };
            (with(before), with(after))
        })
    })
}

/// The same, with a caller that may have another identity after.
fn any_move() -> impl Strategy<Value = (Policy, Policy, [Vec<&'static str>; 2])> {
    let identities = || prop::sample::subsequence(vec!["one", "two"], 1..=2);
    (any_change(), identities(), identities(), any::<[bool; 2]>()).prop_map(
        |((mut before, mut after), old, new, known)| {
            for (policy, knows) in [(&mut before, known[0]), (&mut after, known[1])] {
                if knows {
                    policy
                        .rules
                        .push("allow \"spiffe://example.test/service/two\"".to_owned());
                }
            }
            (before, after, [old, new])
        },
    )
}

fn named(policy: &Policy, identities: &[&str]) -> String {
    let quoted: Vec<String> = identities
        .iter()
        .map(|name| format!("\"{}\"", super::identity(name)))
        .collect();
    let identity = format!("; calls a; identity {}", quoted.join(" "));
    policy.text().replacen("; calls a", &identity, 1)
}

proptest! {
    #![proptest_config(super::cases(96))]

    #[test]
    fn access_gained_and_lost_is_real_on_both_sides((before, after) in any_change()) {
        let texts = format!("{}\n---\n{}", before.text(), after.text());
        let ((base, id), (head, _)) = (linked(&before.text())?, linked(&after.text())?);
        let change = Change::new(&base, &head);
        let kept = change.kept_service(id).expect("both have it");
        let (old, new) = (Probe::of(&base, id).expect("it links"), Probe::of(&head, id).expect("it links"));
        let lets_in = |probe: &Probe, point: &Point| probe.is_allowed(point) == Some(true);
        let found = access::of(change, kept);
        let world = after.world();
        let gains = world.iter().any(|point| !lets_in(&old, point) && lets_in(&new, point));
        let gained = found.as_ref().map(|found| found.gained.as_slice()).unwrap_or_default();
        prop_assert_eq!(!gained.is_empty(), gains, "{}", texts);
        for gain in gained {
            let witness = shown(gain.witness.as_ref(), &after)?;
            prop_assert!(!lets_in(&old, witness) && lets_in(&new, witness), "{texts}");
            prop_assert!(matches!(gain.way, Way::Rule(rule) if new.takes(rule, witness)), "{texts}");
        }
        let web = super::identity("web");
        let from_web = || world.iter().filter(|point| point.from.as_ref() == Some(&web));
        let loses = from_web().any(|point| lets_in(&old, point) && !lets_in(&new, point));
        let lost: Vec<_> = found
            .iter()
            .flat_map(|found| &found.lost)
            .filter(|loss| loss.caller.is_some())
            .collect();
        prop_assert_eq!(!lost.is_empty(), loses, "{}", texts);
        for loss in lost {
            let witness = shown(loss.witness.as_ref(), &after)?;
            prop_assert!(lets_in(&old, witness) && !lets_in(&new, witness), "{texts}");
            let any = from_web().any(|point| lets_in(&new, point));
            prop_assert_eq!(loss.entirely, !any, "{}", texts);
        }
    }

    #[test]
    fn what_fails_in_the_middle_works_before_and_after((before, after, identities) in any_move()) {
        let (before_text, after_text) = (named(&before, &identities[0]), named(&after, &identities[1]));
        let texts = format!("{before_text}\n---\n{after_text}");
        let ((base, id), (head, _)) = (linked(&before_text)?, linked(&after_text)?);
        let change = Change::new(&base, &head);
        let (old, new) = (Probe::of(&base, id).expect("it links"), Probe::of(&head, id).expect("it links"));
        let gets_in = |probe: &Probe, names: &[&str], point: &Point| {
            names.iter().any(|name| {
                let point = Point { from: Some(super::identity(name)), ..point.clone() };
                probe.is_allowed(&point) == Some(true)
            })
        };
        let works = |point: &Point| gets_in(&old, &identities[0], point) && gets_in(&new, &identities[1], point);
        let world = after.world();
        let old_fails = world.iter().any(|point| works(point) && !gets_in(&new, &identities[0], point));
        let new_fails = world.iter().any(|point| works(point) && !gets_in(&old, &identities[1], point));
        let web = base.service_named("web").expect("it is in the policy");
        let edge = change.kept_edges().find(|edge| edge.caller.base == web && edge.callee.base == id);
        let skew = match edge {
            Some(edge) => skew::of(change, edge).expect("they are small"),
            None => None,
        };
        let sides = skew.as_ref().map_or([None, None], |skew| [skew.old_caller.as_ref(), skew.new_caller.as_ref()]);
        prop_assert_eq!(sides.map(|side| side.is_some()), [old_fails, new_fails], "{}", texts);
        for (side, probe, names) in [(sides[0], &new, &identities[0]), (sides[1], &old, &identities[1])] {
            if let Some(side) = side {
                let witness = shown(side.witness.as_ref(), &after)?;
                prop_assert!(works(witness) && !gets_in(probe, names, witness), "{witness:?}\n{texts}");
            }
        }
    }
}
