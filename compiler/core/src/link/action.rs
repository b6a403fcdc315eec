//! What a route does with its requests besides sending them somewhere.

use mesh_bundle::slice::{self, Answer, Callee, HeaderEdits, RouteFilters};
use mesh_engine::filter::{FilterError, PathRewriteError};
use mesh_engine::route::{CalleeTable, RouteError};
use mesh_syntax::{Diagnostic, Span};

use super::Linker;
use crate::code;
use crate::linked::{Route, ServiceId, Subset, Target};
use crate::model::{self, Actions, Mirror, Spanned};

impl Linker<'_, '_> {
    /// The mirrors of a route become ids; the rest names nothing.
    pub(super) fn actions(
        &mut self,
        service: (&model::Service, ServiceId),
        route: &model::Route,
        subsets: &[Subset],
    ) -> Actions<Target> {
        let actions = &route.actions;
        let mut mirrors: Vec<Mirror<Target>> = Vec::new();
        for mirror in &actions.mirrors {
            let Some(target) = self.target(service, &mirror.target, subsets) else {
                continue;
            };
            if let Some(first) = mirrors.iter().find(|first| first.target == target) {
                let first = first.span;
                self.report(
                    Diagnostic::error(
                        code::DESTINATION_TWICE,
                        mirror.span,
                        "this route copies its requests there twice",
                    )
                    .label(first, "the first time")
                    .help("add the shares up in one `mirror`"),
                );
                continue;
            }
            mirrors.push(Mirror {
                target,
                share: mirror.share,
                span: mirror.span,
            });
        }
        mirrors.sort_by_key(|mirror| mirror.target);
        Actions {
            answer: actions.answer.clone(),
            rewrite: actions.rewrite.clone(),
            mirrors,
            fault: actions.fault,
            request_headers: actions.request_headers.clone(),
            response_headers: actions.response_headers.clone(),
            cors: actions.cors.clone(),
            upgrade: actions.upgrade,
            path_accepts: actions.path_accepts.clone(),
            streaming: actions.streaming,
            sticky: actions.sticky.clone(),
        }
    }

    /// Lets the engine read what only it can judge, such as captures that a pattern does not make.
    pub(super) fn check_actions(&mut self, route: &Route) {
        let actions = &route.actions;
        let edits = |edits: &Option<Spanned<HeaderEdits>>| {
            edits
                .as_ref()
                .map(|edits| edits.value.clone())
                .unwrap_or_default()
        };
        let filters = RouteFilters {
            rewrite: actions
                .rewrite
                .as_ref()
                .map(|rewrite| rewrite.value.clone()),
            request_headers: edits(&actions.request_headers),
            response_headers: edits(&actions.response_headers),
            cors: actions.cors.as_ref().map(|cors| cors.value.clone()),
            ..RouteFilters::default()
        };
        let answer = actions.answer.as_ref().map(|answer| answer.value.clone());
        if filters == RouteFilters::default() && answer.is_none() {
            return;
        }
        let matches = route.matches.iter().map(|block| slice::RouteMatch {
            conditions: block
                .conditions
                .iter()
                .map(|condition| condition.value.clone())
                .collect(),
        });
        let table = CalleeTable::build(&Callee {
            service: route.name.value.clone(),
            routes: vec![slice::Route {
                name: route.name.value.clone(),
                matches: matches.collect(),
                destinations: vec![slice::Destination::only(slice::Target::default())],
                answer,
                filters,
                ..slice::Route::default()
            }],
            ..Callee::default()
        });
        if let Err(RouteError::Filter { source, .. }) = table {
            let finding = refused(route, &source);
            self.report(finding);
        }
    }
}

fn refused(route: &Route, error: &FilterError) -> Diagnostic {
    let actions = &route.actions;
    let answer = actions.answer.as_ref();
    let redirect = answer.filter(|answer| matches!(answer.value, Answer::Redirect(_)));
    let of_path = actions
        .rewrite
        .as_ref()
        .map(|rewrite| rewrite.span)
        .or(redirect.map(|redirect| redirect.span));
    let of_headers = actions
        .request_headers
        .as_ref()
        .or(actions.response_headers.as_ref())
        .map(|edits| edits.span);
    let at = |span: Option<Span>| span.unwrap_or(route.name.span);
    match error {
        FilterError::Path {
            path,
            source: PathRewriteError::NotCaptured(what),
        } => {
            let finding = Diagnostic::error(
                code::NOT_CAPTURED,
                at(of_path),
                format!("\"{path}\" has a `{what}`, but not every path of this route does"),
            )
            .help(format!(
                "match paths with `{what}` only, as in `match {{ path \"{}\" }}`",
                if what == "**" { "/a/**" } else { "/a/{x}" }
            ));
            match route.matches.first() {
                Some(block) => finding.label(block.span, "what the route matches"),
                None => finding.label(route.name.span, "the route takes every path"),
            }
        }
        FilterError::Path { .. } | FilterError::Host { .. } => {
            Diagnostic::error(code::WRONG_TYPE, at(of_path), chain(error))
        }
        FilterError::Header(_) => {
            Diagnostic::error(code::WRONG_TYPE, at(of_headers), error.to_string())
        }
        FilterError::Cors(_) => {
            let span = actions.cors.as_ref().map(|cors| cors.span);
            Diagnostic::error(code::WRONG_TYPE, at(span), error.to_string())
        }
        FilterError::Status(_) => {
            let span = answer.map(|answer| answer.span);
            Diagnostic::error(code::WRONG_TYPE, at(span), error.to_string())
        }
    }
}

/// An error and what it is made of.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        text = format!("{text}: {next}");
        source = next.source();
    }
    text
}
