//! Calls that fail while old and new proxies are side by side, and what an intermediate commit has to keep.

use mesh_compiler::diff::access::orphaned;
use mesh_compiler::diff::skew::{Break, Cause};
use mesh_compiler::diff::staging::Staging;
use mesh_compiler::diff::{Change, staging};
use mesh_compiler::linked::ServiceId;

use super::{Meshes, has_several_ports, shown};
use crate::difference::{Difference, Skew, Unknown};

pub(super) fn skews(meshes: &Meshes<'_>, found: &mut Difference) {
    let change = meshes.change;
    let staging = staging::of(change);
    let name = |id| change.head.service(id).name.value.clone();
    for (position, skew) in staging.skews.iter().enumerate() {
        let (from, to) = (name(skew.edge.caller.head), name(skew.edge.callee.head));
        let sides = [&skew.old_caller, &skew.new_caller];
        let point = sides
            .iter()
            .find_map(|side| side.as_ref()?.witness.as_ref());
        found.unsafe_skew.push(Skew {
            old_caller: skew.old_caller.as_ref().map(|each| because(each, true)),
            new_caller: skew.new_caller.as_ref().map(|each| because(each, false)),
            orderless: staging.orderless.contains(&position),
            keep: keep(
                change,
                &staging,
                [skew.edge.caller.head, skew.edge.callee.head],
            ),
            witness: point.map(|point| {
                let several = has_several_ports(change.head, &to);
                shown(change.head, point, &to, several)
            }),
            from,
            to,
            environments: Vec::new(),
        });
    }
    for gone in orphaned(change) {
        let to = &change.base.service(gone.callee).name.value;
        for caller in gone.callers {
            found.unsafe_skew.push(Skew {
                from: name(caller.head),
                to: to.clone(),
                old_caller: Some("it still calls a service that is gone".to_owned()),
                new_caller: None,
                orderless: false,
                keep: vec![format!("service {to}, until no proxy calls it any more")],
                witness: None,
                environments: Vec::new(),
            });
        }
    }
    if staging.unknown > 0 {
        found.unknown.push(Unknown {
            what: "unsafe_skew",
            service: None,
            reason: format!(
                "{} pairs of services are too large to compare",
                staging.unknown
            ),
            environments: Vec::new(),
        });
    }
}

fn because(each: &Break, old_caller: bool) -> String {
    let (caller, callee) = if old_caller {
        ("old", "new")
    } else {
        ("new", "old")
    };
    match each.cause {
        Cause::CalleeIdentity => {
            format!("the {callee} callee does not have the identity that the {caller} caller dials")
        }
        Cause::Port => {
            format!("the {callee} callee does not have the port that the {caller} caller dials")
        }
        Cause::Protocol => {
            format!("the {caller} caller and the {callee} callee carry the port differently")
        }
        Cause::CallerIdentity => {
            format!("the {callee} callee's rules do not know the identity of the {caller} caller")
        }
        Cause::Rules => {
            format!("the {callee} callee refuses the {caller} caller what works before and after")
        }
        Cause::Transport => format!(
            "of the {caller} caller and the {callee} callee one has mutual TLS and the other plaintext only"
        ),
    }
}

/// What an intermediate commit has to keep of one pair.
fn keep(change: Change<'_>, staging: &Staging, ends: [ServiceId; 2]) -> Vec<String> {
    let beside = staging.kept_beside.iter().flatten();
    let mut kept = Vec::new();
    for beside in beside.filter(|beside| ends.contains(&beside.service)) {
        let name = &change.head.service(beside.service).name.value;
        let identities = beside.identities.iter();
        kept.extend(identities.map(|id| format!("identity {id} of {name}")));
        kept.extend(
            beside
                .ports
                .iter()
                .map(|port| format!("port {port} of {name}")),
        );
        kept.extend(
            beside
                .rules
                .iter()
                .map(|rule| format!("`{rule}` of {name}")),
        );
        if beside.permissive {
            kept.push(format!("both ways into {name} with `mtls permissive`"));
        }
    }
    kept
}
