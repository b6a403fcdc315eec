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

    /// The examples of the page, in order.
    #[cfg(test)]
    pub(crate) fn examples(&self) -> Vec<Example> {
        let mut examples = Vec::new();
        let mut base: Option<String> = None;
        let text = self.text();
        let mut open: Option<(&str, String)> = None;
        for line in text.lines() {
            match (line, &mut open) {
                ("```kdl bad" | "```kdl good" | "```kdl base", _) => {
                    open = Some((
                        if line.ends_with("base") { "base" } else { line },
                        String::new(),
                    ));
                }
                ("```", _) => match open.take() {
                    Some(("base", text)) => base = Some(text),
                    Some((kind, text)) => examples.push(Example {
                        good: kind.ends_with("good"),
                        text,
                        base: base.clone(),
                    }),
                    None => {}
                },
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

/// An example of a page.
#[cfg(test)]
#[derive(Clone, Debug)]
pub(crate) struct Example {
    /// Whether it has no such finding.
    pub(crate) good: bool,
    /// Its files.
    pub(crate) text: String,
    /// What was deployed before, where the page speaks of changes.
    pub(crate) base: Option<String>,
}
