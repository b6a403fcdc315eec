//! How pairs that don't work in the middle are spoken of.

use mesh_compiler::diff::skew::{Break, Cause, Skew};
use mesh_syntax::Diagnostic;

use crate::facts::Facts;

/// Why one direction fails, as a label says it.
pub(super) fn because(each: &Break, old_caller: bool) -> String {
    let (caller, callee) = if old_caller {
        ("old", "new")
    } else {
        ("new", "old")
    };
    let why = match each.cause {
        Cause::CalleeIdentity => {
            format!("the {caller} caller dials an identity that the {callee} callee does not have")
        }
        Cause::Port => {
            format!("the {caller} caller dials a port that the {callee} callee does not have")
        }
        Cause::Protocol => {
            format!("the {caller} caller and the {callee} callee carry the port differently")
        }
        Cause::Transport => format!(
            "of the {caller} caller and the {callee} callee one has mutual TLS and the other plaintext only"
        ),
        Cause::CallerIdentity => {
            format!("the {callee} callee's rules do not know the identity of the {caller} caller")
        }
        Cause::Rules => format!(
            "the {callee} callee's rules refuse the {caller} caller what they let in before and after"
        ),
    };
    format!("in the roll-out, {why}")
}

/// Adds both places and a request to a finding about a pair.
pub(super) fn show(facts: &Facts<'_>, finding: Diagnostic, skew: &Skew) -> Diagnostic {
    let mesh = facts.mesh();
    let (caller, callee) = (
        mesh.service(skew.edge.caller.head),
        mesh.service(skew.edge.callee.head),
    );
    let mut finding = finding.label(caller.name.span, "the caller");
    let sides = [(&skew.old_caller, true), (&skew.new_caller, false)];
    for (side, old_caller) in sides {
        if let Some(side) = side {
            finding = finding.label(callee.name.span, because(side, old_caller));
        }
    }
    let witness = sides
        .iter()
        .find_map(|(side, _)| side.as_ref()?.witness.as_ref());
    let mut finding = facts.witnessed(finding, witness, callee.id);
    // In the middle the caller may have an identity that the head does not know; tests name the service.
    if let Some(witness) = finding
        .witness
        .as_mut()
        .filter(|witness| witness.from.is_some())
    {
        witness.from = Some(caller.name.value.clone());
    }
    finding
}
