//! Access: which rules matter, and who gets in.

use mesh_bundle::slice::{Effect, Enforcement};
use mesh_compiler::analysis::access::{self, AccessFacts};
use mesh_compiler::analysis::probe::Probe;
use mesh_compiler::analysis::request_space::Point;
use proptest::prelude::*;

use super::{Look, any_policy, identity, linked, shown};

proptest! {
    #![proptest_config(super::cases(96))]

    #[test]
    fn access_rules_are_what_their_facts_say(policy in any_policy()) {
        let text = policy.text();
        let (mesh, id) = linked(&text)?;
        let facts = AccessFacts::of(&mesh, id);
        let probe = Probe::of(&mesh, id).expect("what links is what the engine takes");
        let world = policy.world();
        let rules = &mesh.service(id).access;
        let mut somebody = false;
        for (index, rule) in rules.iter().enumerate() {
            let taken = || world.iter().filter(|point| probe.takes(index, point));
            prop_assert_eq!(facts.never.contains(&index), taken().next().is_none(), "rule {}\n{}", index, text);
            let admits = rule.effect == Effect::Allow && rule.enforcement == Enforcement::Enforce;
            let gets_in = taken().any(|point| probe.is_allowed(point) == Some(true));
            somebody |= admits && gets_in;
            let overruled = facts.overruled.iter().find(|each| each.rule == index);
            let is_overruled = admits && taken().next().is_some() && !gets_in;
            prop_assert_eq!(overruled.is_some(), is_overruled, "rule {}\n{}", index, text);
            if let Some(overruled) = overruled {
                let witness = shown(overruled.witness.as_ref(), &policy)?;
                prop_assert!(probe.takes(index, witness) && probe.is_allowed(witness) == Some(false));
            }
        }
        let admitting = rules.iter().any(|rule| rule.effect == Effect::Allow);
        prop_assert_eq!(facts.closed, admitting && !somebody, "{}", text);
        if let Some(open) = &facts.open {
            let witness = shown(open.witness.as_ref(), &policy)?;
            prop_assert_eq!(witness.from.is_none(), open.unauthenticated);
            for point in world.iter().filter(|point| point.from.is_none() == open.unauthenticated) {
                prop_assert!(probe.is_allowed(point) == Some(true), "{point:?}\n{text}");
            }
        }
        for bypass in &facts.bypassed {
            prop_assert!(probe.is_allowed(&bypass.witness) == Some(true), "{text}");
            prop_assert!(!probe.takes(bypass.rule, &bypass.witness), "{text}");
        }
    }

    #[test]
    fn without_what_is_redundant_nobody_gains_or_loses(policy in any_policy()) {
        let text = policy.text();
        let (mesh, id) = linked(&text)?;
        let facts = AccessFacts::of(&mesh, id);
        let probe = Probe::of(&mesh, id).expect("what links is what the engine takes");
        let world = policy.world();
        let mut smaller = mesh.clone();
        let idle: Vec<usize> = facts.redundant.iter().map(|each| each.rule).collect();
        let mut index = 0;
        smaller.services[id.index()].access.retain(|_| {
            index += 1;
            !idle.contains(&(index - 1))
        });
        let without = Probe::of(&smaller, id).expect("what links is what the engine takes");
        for point in &world {
            prop_assert_eq!(probe.is_allowed(point), without.is_allowed(point), "{:?}\n{}", point, text);
        }
        for each in &facts.redundant {
            shown(each.witness.as_ref(), &policy)?;
        }
        let web = mesh.service_named("web").expect("it is in the policy");
        let web_identity = identity("web");
        let gets_in = world.iter().any(|point| {
            point.from.as_ref() == Some(&web_identity) && probe.is_allowed(point) == Some(true)
        });
        prop_assert_eq!(facts.lockouts.iter().any(|each| each.caller == web), !gets_in, "{}", text);
    }

    #[test]
    fn whoever_is_met_at_no_port_is_not_called_admitted(
        policy in any_policy(),
        modes in prop::sample::select(vec![["mtls strict", "mtls off"], ["mtls off", "mtls permissive"], ["mtls strict", "mtls strict"]]),
    ) {
        let mut policy = policy;
        let port = format!("port 81{} {{ {} }}", policy.port, modes[1]);
        let text = policy.text().replace(&format!("port 81{}\n", policy.port), &format!("{port}\n"));
        let text = text.replace("mtls permissive\n endpoints", &format!("{}\n endpoints", modes[0]));
        if policy.port.is_empty() && !policy.looks.contains(&Look::Port) {
            policy.looks.push(Look::Port);
        }
        let (mesh, id) = linked(&text)?;
        let facts = AccessFacts::of(&mesh, id);
        let probe = Probe::of(&mesh, id).expect("what links is what the engine takes");
        let is_met = |point: &Point| {
            let mode = modes[usize::from(point.port == 81)];
            mode == "mtls permissive" || (mode == "mtls off") == point.from.is_none()
        };
        let world = policy.world();
        if let Some(open) = &facts.open {
            let strangers = world.iter().filter(|point| point.from.is_none() == open.unauthenticated);
            for point in strangers.filter(|point| is_met(point)) {
                prop_assert!(probe.is_allowed(point) == Some(true), "{point:?}\n{text}");
            }
        }
        let let_in = access::allowed(mesh.service(id)).expect("it is small");
        for point in &world {
            prop_assert_eq!(let_in.contains(point), probe.is_allowed(point) == Some(true), "{:?}\n{}", point, text);
        }
        let web = mesh.service_named("web").expect("it is in the policy");
        let web_identity = identity("web");
        let gets_in = world.iter().any(|point| {
            point.from.as_ref() == Some(&web_identity) && probe.is_allowed(point) == Some(true)
        });
        prop_assert_eq!(facts.lockouts.iter().any(|each| each.caller == web), !gets_in, "{}", text);
    }
}
