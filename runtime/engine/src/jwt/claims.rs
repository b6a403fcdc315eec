//! What verified tokens say, as rules ask about it.

use super::json::Json;
use crate::request::HeaderView;

/// Claims, one line per value: a list is a set, a number and a truth value are as JSON writes them, and `scope` is a
/// list that is separated by spaces (RFC 8693 section 4.2). What is nested deeper has no name that a rule could ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims(Vec<(Box<str>, Vec<u8>)>);

impl Claims {
    pub(super) fn of(members: &[(String, Json)]) -> Self {
        let mut claims = Self::default();
        for (name, value) in members {
            match value {
                Json::List(values) => values.iter().for_each(|value| claims.add(name, value)),
                Json::Text(text) if name == "scope" => {
                    for scope in text.split(' ').filter(|scope| !scope.is_empty()) {
                        claims.push(name, scope.as_bytes().to_vec());
                    }
                }
                value => claims.add(name, value),
            }
        }
        claims
    }

    fn add(&mut self, name: &str, value: &Json) {
        let text = match value {
            Json::Text(text) => text.clone(),
            Json::Bool(value) => value.to_string(),
            Json::Unsigned(value) => value.to_string(),
            Json::Signed(value) => value.to_string(),
            Json::Float(value) => value.to_string(),
            Json::Null | Json::List(_) | Json::Object(_) => return,
        };
        self.push(name, text.into_bytes());
    }

    fn push(&mut self, name: &str, value: Vec<u8>) {
        self.0.push((name.into(), value));
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Calls `each` with every value of a claim, in order. Names of claims are told apart by case (RFC 7519 section 4).
    pub fn each(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        for (known, value) in &self.0 {
            if **known == *name {
                each(value);
            }
        }
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Claims {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(from: I) -> Self {
        let mut claims = Self::default();
        for (name, value) in from {
            claims.push(name.as_ref(), value.as_ref().as_bytes().to_vec());
        }
        claims
    }
}

impl HeaderView for Claims {
    fn visit(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.each(name, each);
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::object;
    use super::*;

    #[track_caller]
    fn check(json: &str, name: &str, expected: &[&str]) {
        let claims = Claims::of(&object(json.as_bytes()).unwrap());
        let mut found = Vec::new();
        claims.each(name, &mut |value| {
            found.push(String::from_utf8(value.to_vec()).unwrap());
        });
        assert_eq!(found, expected, "{json}");
    }

    #[test]
    fn a_claim_is_a_set_of_values() {
        check(r#"{"g":"a b"}"#, "g", &["a b"]);
        check(
            r#"{"g":["a","b",1,true,-2]}"#,
            "g",
            &["a", "b", "1", "true", "-2"],
        );
        check(r#"{"g":[["a"],{"b":1},null]}"#, "g", &[]);
        check(r#"{"g":{"roles":["a"]},"g.roles":"b"}"#, "g.roles", &["b"]);
        check(r#"{"scope":"read  write"}"#, "scope", &["read", "write"]);
        check(r#"{"G":"a"}"#, "g", &[]);
        check(r#"{"g":1.5}"#, "g", &["1.5"]);
    }
}
