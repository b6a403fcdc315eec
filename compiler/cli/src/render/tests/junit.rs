//! `meshc test --format junit`: the XML that continuous integration reads. One suite for each environment, one case
//! for each test. There is no standard; what is here is what Jenkins, GitLab and the JUnit 5 reader agree on.

use mesh_syntax::SourceSet;

use super::{because, place, reasons};
use crate::commands::test::{Results, Run, Tested};

/// The results as XML.
pub(crate) fn junit(sources: &SourceSet, results: &Results) -> String {
    let mut lines = vec![
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned(),
        "<testsuites name=\"meshc\">\n".to_owned(),
    ];
    for environment in &results.environments {
        let in_it = |test: &'_ Tested| {
            let mut runs = test.runs.iter();
            runs.position(|run| run.environment == *environment)
        };
        let runs: Vec<(&Tested, &Run)> = results
            .tests
            .iter()
            .filter_map(|test| Some((test, test.runs.get(in_it(test)?)?)))
            .collect();
        let (name, count) = (escaped(environment), runs.len());
        let failed = runs.iter().filter(|(_, run)| !run.failures.is_empty());
        let failed = failed.count();
        lines.push(format!(
            "  <testsuite name=\"{name}\" tests=\"{count}\" failures=\"{failed}\" errors=\"0\" skipped=\"0\">\n"
        ));
        lines.extend(runs.into_iter().map(|(test, run)| case(sources, test, run)));
        lines.push("  </testsuite>\n".to_owned());
    }
    lines.push("</testsuites>\n".to_owned());
    lines.concat()
}

fn case(sources: &SourceSet, test: &Tested, run: &Run) -> String {
    let (line, _) = sources.line_column(test.span);
    let file = sources.path(test.span.file);
    let head = format!(
        "    <testcase name=\"{}\" classname=\"{}\" file=\"{}\" line=\"{line}\"",
        escaped(&test.name),
        escaped(file),
        escaped(file)
    );
    let Some(message) = because(&run.outcome, &run.failures) else {
        return format!("{head}/>\n");
    };
    let mut body = vec![place(sources, test)];
    body.extend(
        run.failures
            .iter()
            .flat_map(|failure| reasons(sources, failure)),
    );
    format!(
        "{head}>\n      <failure type=\"expectation\" message=\"{}\">{}</failure>\n    </testcase>\n",
        escaped(&message),
        escaped(&body.join("\n"))
    )
}

/// As an attribute and as text. What XML 1.0 can't hold at all is shown as a replacement character.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'.. => {
                escaped.push(letter);
            }
            _ => escaped.push('\u{fffd}'),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xml_holds_any_name() {
        assert_eq!(
            escaped("a<b>&\"\u{1}\n"),
            "a&lt;b&gt;&amp;&quot;\u{fffd}&#10;"
        );
    }
}
