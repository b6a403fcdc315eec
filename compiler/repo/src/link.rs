//! Where symbolic links lead that have no name of a policy file, by their text: a commit is judged without a disk, and
//! the work tree alike. It follows none.

/// What a link that is no policy file is, for whoever might think that policies come by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkedFolder {
    /// It leads to a folder of the repository.
    Within,
    /// It leads out of the repository.
    Outside,
}

impl LinkedFolder {
    /// What the finding says.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Within => {
                "this is a symbolic link to a folder, and it is not followed: policies are read where they are"
            }
            Self::Outside => {
                "this is a symbolic link that leads out of the repository, and it is not followed: what is there is in no commit"
            }
        }
    }
}

/// Where a link leads, both relative to the repository; none: out of it.
pub fn led_to(link: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_by_their_text() {
        for (link, target, expected) in [
            ("policy/shared", "../common", Some("common")),
            ("shared", "common/./a/", Some("common/a")),
            ("a/b/c", "../..", Some("")),
            ("a/b", "../../x", None),
            ("a", "/etc", None),
        ] {
            assert_eq!(led_to(link, target).as_deref(), expected, "{link} {target}");
        }
    }
}
