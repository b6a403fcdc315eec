//! The page of a code: what `meshc explain MSH0401` prints and an editor shows.

/// The page of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// `MSH` and four digits.
    pub code: &'static str,
    /// Group and kebab-case name.
    pub name: &'static str,
    /// What is wrong, in a few words.
    pub summary: &'static str,
    /// A doc comment, each line with the blank before it.
    pub(crate) body: &'static str,
}

impl Page {
    /// The page as Markdown: title, what it flags, why it matters, examples.
    pub fn text(&self) -> String {
        let mut text = format!("# {}: {}\n\n`{}`\n\n", self.code, self.summary, self.name);
        for line in self.body.lines() {
            text.push_str(line.strip_prefix(' ').unwrap_or(line));
            text.push('\n');
        }
        text
    }

    /// The examples of the page: whether each is a good one, and its text.
    #[cfg(test)]
    pub(crate) fn examples(&self) -> Vec<(bool, String)> {
        let mut examples = Vec::new();
        let mut open: Option<(bool, String)> = None;
        for line in self.text().lines() {
            match (line, &mut open) {
                ("```kdl bad", _) => open = Some((false, String::new())),
                ("```kdl good", _) => open = Some((true, String::new())),
                ("```", _) => examples.extend(open.take()),
                (line, Some((_, example))) => {
                    example.push_str(line);
                    example.push('\n');
                }
                _ => {}
            }
        }
        examples
    }
}
