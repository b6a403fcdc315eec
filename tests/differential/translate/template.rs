//! Paths with places that stand for whatever a request has there: as regular expressions, and as what is put in place.

use mesh_tests::Failure;

use super::untranslated;

/// A regular expression for a path, each of whose open places is a group, and the names of these in order.
pub(super) fn regex(template: &str) -> (String, Vec<String>) {
    let mut text = String::new();
    let mut groups = Vec::new();
    for segment in template.split('/').skip(1) {
        let name = segment
            .strip_prefix('{')
            .and_then(|segment| segment.strip_suffix('}'));
        match (segment, name) {
            ("**", _) => {
                text.push_str("(/.*)?");
                groups.push("**".to_owned());
            }
            ("*", _) => {
                text.push_str("/([^/]+)");
                groups.push("*".to_owned());
            }
            (_, Some(name)) => {
                text.push_str("/([^/]+)");
                groups.push(name.to_owned());
            }
            _ => {
                text.push('/');
                text.push_str(&escaped(segment));
            }
        }
    }
    (text, groups)
}

/// Whether it is one text.
pub(super) fn is_literal(template: &str) -> bool {
    !template.contains(['*', '{'])
}

/// What takes the place of a path that the template matched.
pub(super) fn substitution(path: &str, groups: &[String]) -> Result<String, Failure> {
    let mut text = String::new();
    for segment in path.split('/').skip(1) {
        let name = segment
            .strip_prefix('{')
            .and_then(|segment| segment.strip_suffix('}'));
        let group = match (segment, name) {
            ("**", _) => Some("**"),
            (_, name) => name,
        };
        match group {
            Some(group) => {
                let position = groups.iter().position(|known| known == group);
                let position =
                    position.ok_or_else(|| untranslated(format_args!("{segment} in {path}")))?;
                if group != "**" {
                    text.push('/');
                }
                text.extend(["\\", &(position + 1).to_string()]);
            }
            None => {
                text.push('/');
                text.push_str(segment);
            }
        }
    }
    Ok(text)
}

/// A text as a regular expression that matches it alone.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        if !character.is_ascii_alphanumeric() && !"/-_ ".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
