//! Edits of headers: set, then add, then remove.

use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_bundle::slice::{HeaderEdits, HeaderLine};

use crate::request::HeaderView;

/// Names that policy may not touch: they say where a message ends, what becomes of its connection, or
/// what proxies tell each other about peers and deadlines.
const PROTECTED: [&str; 14] = [
    "connection",
    "content-length",
    "expect",
    "grpc-timeout",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-client-cert",
];

/// What proxies of the mesh tell each other.
const PROTECTED_PREFIX: &str = "x-mesh-";

/// Edits, compiled.
#[derive(Clone, Debug, Default)]
pub struct HeaderEditor {
    set: Box<[(HeaderName, HeaderValue)]>,
    add: Box<[(HeaderName, HeaderValue)]>,
    remove: Box<[HeaderName]>,
}

/// Why an edit is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderEditError {
    /// Not a header name.
    #[error("{0:?} is not a header name")]
    Name(String),
    /// Not a header value.
    #[error("the value of header {0:?} holds a byte that no value has")]
    Value(String),
    /// One that only the proxy may set.
    #[error("header {0:?} belongs to the proxy and cannot be edited")]
    Protected(String),
}

/// Whether policy may not touch the header; the name is lower-case.
pub fn is_protected(name: &str) -> bool {
    PROTECTED.contains(&name) || name.starts_with(PROTECTED_PREFIX)
}

impl HeaderEditor {
    /// Compiles edits.
    pub fn build(edits: &HeaderEdits) -> Result<Self, HeaderEditError> {
        let lines = |lines: &[HeaderLine]| lines.iter().map(line).collect::<Result<_, _>>();
        Ok(Self {
            set: lines(&edits.set)?,
            add: lines(&edits.add)?,
            remove: edits
                .remove
                .iter()
                .map(|text| name(text))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Whether they change nothing.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    /// The names that are edited; one may be there several times.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let lines = self.set.iter().chain(&self.add).map(|(name, _)| name);
        lines.chain(&self.remove).map(HeaderName::as_str)
    }

    /// Edits the lines of one header of which not everything is known: `None` stands for what others say of it.
    pub fn edit_lines(&self, name: &str, lines: &mut Vec<Option<String>>) {
        let text =
            |value: &HeaderValue| Some(String::from_utf8_lossy(value.as_bytes()).into_owned());
        for (_, value) in self.set.iter().filter(|(set, _)| set == name) {
            *lines = vec![text(value)];
        }
        let added = self.add.iter().filter(|(added, _)| added == name);
        lines.extend(added.map(|(_, value)| text(value)));
        if self.remove.iter().any(|removed| removed == name) {
            lines.clear();
        }
    }

    /// Edits headers.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name.clone(), value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }

    /// The headers as they are after the edits, without copying them: what a gateway's edits make of a
    /// request is what the callee's own routes match.
    pub fn view<'v>(&'v self, headers: &'v dyn HeaderView) -> EditedHeaders<'v> {
        EditedHeaders {
            editor: self,
            headers,
        }
    }
}

/// See [`HeaderEditor::view`].
#[derive(Clone, Copy, Debug)]
pub struct EditedHeaders<'v> {
    editor: &'v HeaderEditor,
    headers: &'v dyn HeaderView,
}

impl HeaderView for EditedHeaders<'_> {
    fn visit(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        if self.editor.remove.iter().any(|removed| removed == name) {
            return;
        }
        match self.editor.set.iter().find(|(set, _)| set == name) {
            Some((_, value)) => each(value.as_bytes()),
            None => self.headers.visit(name, each),
        }
        for (_, value) in self.editor.add.iter().filter(|(added, _)| added == name) {
            each(value.as_bytes());
        }
    }
}

fn name(text: &str) -> Result<HeaderName, HeaderEditError> {
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        return Err(HeaderEditError::Name(text.to_owned()));
    };
    if is_protected(name.as_str()) {
        return Err(HeaderEditError::Protected(text.to_owned()));
    }
    Ok(name)
}

pub(super) fn line(line: &HeaderLine) -> Result<(HeaderName, HeaderValue), HeaderEditError> {
    let Ok(value) = HeaderValue::from_str(&line.value)
        .or_else(|_not_ascii| HeaderValue::from_bytes(line.value.as_bytes()))
    else {
        return Err(HeaderEditError::Value(line.name.clone()));
    };
    Ok((name(&line.name)?, value))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn edits() -> impl Strategy<Value = HeaderEdits> {
        let line = || ("[a-c]", "[0-9]{0,2}").prop_map(|(name, value)| HeaderLine { name, value });
        (vec(line(), 0..3), vec(line(), 0..4), vec("[a-c]", 0..2)).prop_map(
            |(mut set, add, remove)| {
                set.sort();
                set.dedup_by(|a, b| a.name == b.name);
                HeaderEdits { set, add, remove }
            },
        )
    }

    /// Lists of lines, walked.
    fn naive(edits: &HeaderEdits, lines: &[(String, String)]) -> Vec<(String, String)> {
        let mut lines = lines.to_vec();
        for set in &edits.set {
            lines.retain(|(name, _)| *name != set.name);
            lines.push((set.name.clone(), set.value.clone()));
        }
        for add in &edits.add {
            lines.push((add.name.clone(), add.value.clone()));
        }
        lines.retain(|(name, _)| !edits.remove.contains(name));
        lines
    }

    fn values(view: &dyn HeaderView, name: &str) -> Vec<String> {
        let mut values = Vec::new();
        view.visit(name, &mut |value| {
            values.push(String::from_utf8_lossy(value).into_owned());
        });
        values
    }

    proptest! {
        /// Applied, viewed and walked by hand, edits come to the same lines.
        #[test]
        fn edits_are_those_of_a_naive_model(
            edits in edits(),
            lines in vec(("[a-d]", "[x-z]{0,2}"), 0..6),
        ) {
            let editor = HeaderEditor::build(&edits).unwrap();
            let expected = naive(&edits, &lines);
            let mut map = HeaderMap::new();
            for (name, value) in &lines {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                map.append(name, HeaderValue::from_str(value).unwrap());
            }
            let before = map.clone();
            editor.apply(&mut map);
            for name in ["a", "b", "c", "d"] {
                let expected = values(&expected, name);
                prop_assert_eq!(&values(&map, name), &expected);
                prop_assert_eq!(&values(&editor.view(&before), name), &expected);
            }
            prop_assert_eq!(map.len(), expected.len());
        }
    }

    #[test]
    fn what_belongs_to_the_proxy_is_refused() {
        for name in ["host", "content-length", "te", "x-mesh-peer", "Connection"] {
            let remove = HeaderEdits {
                remove: vec![name.to_owned()],
                ..HeaderEdits::default()
            };
            assert_eq!(
                HeaderEditor::build(&remove).unwrap_err(),
                HeaderEditError::Protected(name.to_owned())
            );
        }
        let line = |name: &str, value: &str| HeaderEdits {
            add: vec![HeaderLine {
                name: name.to_owned(),
                value: value.to_owned(),
            }],
            ..HeaderEdits::default()
        };
        assert!(HeaderEditor::build(&line("a b", "")).is_err());
        assert!(HeaderEditor::build(&line("a", "x\r\ny")).is_err());
        assert!(HeaderEditor::build(&line("a", "é")).is_ok());
    }
}
