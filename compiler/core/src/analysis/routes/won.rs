//! Which requests some routes of a service win.

use mesh_bundle::slice::RouteMatch;
use mesh_engine::route::Precedence;

use super::{Piece, pieces_of};
use crate::analysis::probe;
use crate::analysis::request_space::{CapExceeded, Space};
use crate::linked::Service;

/// The routes of one service, to ask several times what they win.
#[derive(Debug)]
pub(in crate::analysis) struct Contest {
    pieces: Vec<Piece>,
}

impl Contest {
    /// The routes of a service, for the requests that can come.
    pub(in crate::analysis) fn of(
        service: &Service,
        universe: &Space,
    ) -> Result<Self, CapExceeded> {
        let mut pieces: Vec<Piece> = Vec::new();
        for (route, declared) in service.routes.iter().enumerate() {
            let matches = probe::matches(declared);
            let everything = [RouteMatch::default()];
            let matches = match matches.as_slice() {
                [] => &everything[..],
                some => some,
            };
            for (position, each) in matches.iter().enumerate() {
                pieces.extend(pieces_of((route, position), each, universe)?);
            }
        }
        Ok(Self { pieces })
    }

    /// The requests of which the winner is one of the chosen routes, whichever of them. Routes that tie are an
    /// error of their own, so between two that overlap one always wins.
    pub(in crate::analysis) fn won(
        &self,
        chosen: impl Fn(usize) -> bool,
    ) -> Result<Space, CapExceeded> {
        let (mine, others): (Vec<&Piece>, Vec<&Piece>) =
            self.pieces.iter().partition(|piece| chosen(piece.route));
        let mut won = Space::nothing();
        for piece in mine {
            let above: Vec<&Space> = others
                .iter()
                .filter(|other| other.alternative.compare(&piece.alternative) == Precedence::Higher)
                .map(|other| &other.space)
                .collect();
            won.add(match above.as_slice() {
                [] => piece.space.clone(),
                above => piece.space.remainder(above, usize::MAX)?,
            })?;
        }
        Ok(won)
    }
}

/// The requests of which the winner is one of the chosen routes.
pub fn won(
    service: &Service,
    universe: &Space,
    chosen: impl Fn(usize) -> bool,
) -> Result<Space, CapExceeded> {
    Contest::of(service, universe)?.won(chosen)
}
