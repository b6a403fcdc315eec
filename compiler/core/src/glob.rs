//! Patterns over paths of files: `*` stands for a part of one name, `**` for any number of folders.

/// Whether a pattern takes a path. Both are relative, with `/` between names; linear in their product.
pub fn matches(pattern: &str, path: &str) -> bool {
    let names: Vec<&str> = path.split('/').collect();
    // For each number of leading names, whether the pattern so far takes exactly them.
    let mut taken = vec![false; names.len() + 1];
    taken[0] = true;
    for part in pattern.split('/') {
        let mut next = vec![false; names.len() + 1];
        if part == "**" {
            let mut any = false;
            for (index, reached) in taken.iter().enumerate() {
                any |= *reached;
                next[index] = any;
            }
        } else {
            for (index, name) in names.iter().enumerate() {
                next[index + 1] = taken[index] && name_matches(part, name);
            }
        }
        taken = next;
    }
    taken[names.len()]
}

fn name_matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stand_for_names_and_folders() {
        for (pattern, path) in [
            ("teams/pay/**", "teams/pay/a.kdl"),
            ("teams/pay/**", "teams/pay/x/y/a.kdl"),
            ("**/*.kdl", "a.kdl"),
            ("**/*.kdl", "x/y/a.kdl"),
            ("teams/*/a.kdl", "teams/pay/a.kdl"),
            ("teams/pay-*-eu.kdl", "teams/pay-1-eu.kdl"),
            ("a.kdl", "a.kdl"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("teams/pay/**", "teams/payments/a.kdl"),
            ("teams/*", "teams/pay/a.kdl"),
            ("*.kdl", "x/a.kdl"),
            ("ab*ba", "aba"),
            ("", "a"),
        ] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn many_stars_are_not_slow() {
        let pattern = "**/".repeat(500) + &"a*".repeat(500);
        let path = "x/".repeat(500) + &"a".repeat(4000);
        assert!(matches(&pattern, &path));
    }
}
