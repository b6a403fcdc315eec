//! What follows the `?` of a request to the admin socket. Names of a mesh need no escapes, so none are read.

use http::StatusCode;
use mesh_daemon::admin::AdminResponse;

/// The values of a query.
#[derive(Debug)]
pub(super) struct Query<'q>(Vec<(&'q str, &'q str)>);

impl<'q> Query<'q> {
    /// Reads a query of which only these names are known.
    pub(super) fn read(text: &'q str, known: &[&str]) -> Result<Self, AdminResponse> {
        let mut values = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            if !known.contains(&name) {
                return Err(refused(format!(
                    "{name:?} is not known; known are: {}",
                    known.join(", ")
                )));
            }
            values.push((name, value));
        }
        Ok(Self(values))
    }

    /// The value of that name.
    pub(super) fn text(&self, name: &str) -> Option<&'q str> {
        let found = self.0.iter().find(|(found, _)| *found == name);
        found.map(|(_, value)| *value)
    }

    /// The number of that name, at most `max`.
    pub(super) fn number(&self, name: &str, default: u64, max: u64) -> Result<u64, AdminResponse> {
        let Some(text) = self.text(name) else {
            return Ok(default);
        };
        let number = text.parse::<u64>();
        number
            .map(|number| number.min(max))
            .map_err(|_none| refused(format!("{name}: {text:?} is not a number")))
    }
}

/// A request that asks for nothing there is.
pub(super) fn refused(why: String) -> AdminResponse {
    AdminResponse::text(StatusCode::BAD_REQUEST, why + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_is_read() {
        let query = Query::read("service=reviews&limit=5", &["service", "limit"]).unwrap();
        assert_eq!(query.text("service"), Some("reviews"));
        assert_eq!(query.number("limit", 100, 3).unwrap(), 3);
        assert_eq!(query.number("after", 7, 100).unwrap(), 7);
        let unknown = Query::read("sevrice=reviews", &["service"]).unwrap_err();
        assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
        let number = Query::read("limit=many", &["limit"]).unwrap();
        assert!(number.number("limit", 1, 1).is_err());
    }
}
