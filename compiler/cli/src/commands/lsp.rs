//! `meshc lsp`

use super::Failure;
use crate::args::Place;
use crate::exit_code::Exit;
use crate::lsp;

pub(super) fn run(place: &Place) -> Result<Exit, Failure> {
    Ok(lsp::run(place)?)
}
