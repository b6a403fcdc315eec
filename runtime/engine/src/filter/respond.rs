//! An answer that the proxy gives itself.

use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_bundle::slice::Respond;

use super::FilterError;
use super::header::line;

/// An answer, compiled.
#[derive(Clone, Debug)]
pub struct RespondPolicy {
    status: u16,
    body: Box<str>,
    headers: Box<[(HeaderName, HeaderValue)]>,
}

impl RespondPolicy {
    pub(crate) fn build(respond: &Respond) -> Result<Self, FilterError> {
        if !(200..=599).contains(&respond.status) {
            return Err(FilterError::Status(respond.status));
        }
        let headers = respond.headers.iter().map(line);
        Ok(Self {
            status: respond.status,
            body: respond.body.as_str().into(),
            headers: headers.collect::<Result<_, _>>()?,
        })
    }

    /// Its status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Its body.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// Its headers.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            headers.append(name.clone(), value.clone());
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use mesh_bundle::slice::HeaderLine;

    use super::*;

    #[test]
    fn headers_keep_their_order() {
        let line = |value: &str| HeaderLine {
            name: "x-a".into(),
            value: value.into(),
        };
        let policy = RespondPolicy::build(&Respond {
            status: 503,
            body: "later".into(),
            headers: vec![line("2"), line("1")],
        })
        .unwrap();
        let headers = policy.headers();
        let values: Vec<_> = headers.get_all("x-a").iter().collect();
        assert_eq!(values, ["2", "1"]);
        assert_eq!((policy.status(), policy.body()), (503, "later"));
    }

    #[test]
    fn refuses_what_no_answer_has() {
        let status = Respond {
            status: 101,
            ..Respond::default()
        };
        assert_eq!(
            RespondPolicy::build(&status).unwrap_err(),
            FilterError::Status(101)
        );
        let framing = Respond {
            status: 200,
            headers: vec![HeaderLine {
                name: "content-length".into(),
                value: "0".into(),
            }],
            ..Respond::default()
        };
        assert!(RespondPolicy::build(&framing).is_err());
    }
}
