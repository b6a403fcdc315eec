//! What a route does with its requests besides sending them somewhere, and what excludes what.

use mesh_bundle::slice::Answer;
use mesh_syntax::Diagnostic;

use super::{Entry, Reader, cors, fault, headers, mirror, redirect, respond, rewrite, upgrade};
use crate::code;
use crate::model::{Actions, Spanned};

/// Takes an action of a route; whatever else an entry is, it is left alone.
pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>, actions: &mut Actions) {
    let span = entry.span();
    match entry.word() {
        "redirect" => {
            let redirect = redirect::decode(reader, entry);
            actions.answer = Some(Spanned::new(Answer::Redirect(redirect), span));
        }
        "respond" => {
            actions.answer = respond::decode(reader, entry)
                .map(|respond| Spanned::new(Answer::Respond(respond), span));
        }
        "rewrite" => {
            actions.rewrite = rewrite::decode(entry).map(|rewrite| Spanned::new(rewrite, span));
        }
        "mirror" => actions.mirrors.push(mirror::decode(entry)),
        "fault" => actions.fault = fault::decode(reader, entry),
        "request-headers" => {
            actions.request_headers = Some(Spanned::new(headers::decode(reader, entry), span));
        }
        "response-headers" => {
            actions.response_headers = Some(Spanned::new(headers::decode(reader, entry), span));
        }
        "cors" => actions.cors = cors::decode(reader, entry).map(|cors| Spanned::new(cors, span)),
        "upgrade" => actions.upgrade = entry.arg(0, upgrade::protocol),
        "path-accepts" => {
            let accepts = entry.args(0, upgrade::accepts);
            actions.path_accepts = accepts.into_iter().map(|what| what.value).collect();
            actions.path_accepts.sort_unstable();
            actions.path_accepts.dedup();
        }
        "streaming" => actions.streaming = Some(span),
        "sticky" => actions.sticky = Some(upgrade::sticky(reader, entry)),
        _ => {}
    }
}

/// What says nothing where the proxy answers itself.
const OF_FORWARDED: [&str; 10] = [
    "to",
    "rewrite",
    "mirror",
    "request-headers",
    "upgrade",
    "streaming",
    "sticky",
    "timeout",
    "retry",
    "hedge",
];

/// Reports words of one route that can't both hold.
pub(super) fn check_exclusive(reader: &mut Reader<'_>, children: &[Entry<'_>]) {
    let mut answers = children
        .iter()
        .filter(|child| ["redirect", "respond"].contains(&child.word()));
    let Some(answer) = answers.next() else {
        return;
    };
    let word = answer.word();
    let others = answers.chain(
        children
            .iter()
            .filter(|child| OF_FORWARDED.contains(&child.word())),
    );
    for other in others {
        reader.report(
            Diagnostic::error(
                code::INCOMPATIBLE_ACTIONS,
                other.node.name.span,
                format!("a route with `{word}` has no use for `{}`", other.word()),
            )
            .label(
                answer.node.name.span,
                "the proxy answers such requests itself",
            )
            .help("keep one of them, or make two routes that match different requests"),
        );
    }
}
