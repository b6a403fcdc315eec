//! `rollout/slice-size`

use mesh_compiler::diff::slices::Size;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A change that makes the largest slice more than twice as large as it was, and larger than
    /// 256 KiB. Found with `meshc check --base REF`.
    ///
    /// ## Why it matters
    /// Every proxy of that workload holds the slice and compiles it before it serves. A slice grows
    /// with the routes of every callee it may call, so one `allow any` or one generated file is enough.
    ///
    /// ## Examples
    /// One commit adds 5,000 generated routes to a service that many call: the slice of each caller
    /// grows from 12 KiB to 900 KiB.
    pub(crate) static SLICE_SIZE = {
        code: "MSH1106", name: "rollout/slice-size", summary: "a slice grows out of proportion",
        level: Warning, since: "0.1.0", check: check,
    }
}

/// Below this nobody notices.
const SMALL_BYTES: usize = 256 * 1024;

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let largest = facts
        .change()
        .and_then(|change| change.slices())
        .and_then(|slices| slices.largest.as_ref());
    let Some(size) = largest.filter(|size| is_out_of_proportion(size)) else {
        return;
    };
    let mesh = facts.mesh();
    let owner = mesh
        .services
        .iter()
        .find(|service| service.identities.contains(&size.identity));
    let (span, name) = owner.map_or((mesh.name.span, "?"), |owner| {
        (owner.name.span, owner.name.value.as_str())
    });
    cx.report(
        SLICE_SIZE
            .at(
                span,
                format!(
                    "the slice of `{name}` grows from {} to {} with {} routes",
                    kibibytes(size.before),
                    kibibytes(size.bytes),
                    size.routes
                ),
            )
            .at("has the largest slice")
            .help("a slice holds the routes of every service that its workload calls or may call: narrow the `allow`s that admit it without need, or the routes")
            .number("bytes_before", f64::from(u32::try_from(size.before).unwrap_or(u32::MAX)))
            .number("bytes_after", f64::from(u32::try_from(size.bytes).unwrap_or(u32::MAX))),
    );
}

fn is_out_of_proportion(size: &Size) -> bool {
    size.bytes > SMALL_BYTES && size.bytes / 2 > size.before
}

fn kibibytes(bytes: usize) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use crate::tester::changes;

    fn with(routes: usize) -> String {
        let mut text = String::from(
            "service web { port 80; endpoints { static \"10.0.0.1:80\" }; calls a }\nservice a { port 80; allow web; endpoints { static \"10.0.0.2:80\" }\n",
        );
        let long = "x".repeat(2_000);
        for number in 0..routes {
            writeln!(
                text,
                "route r{number} {{ match {{ path \"/{number}/{long}\" }} }}"
            )
            .unwrap();
        }
        text.push_str("}\n");
        text
    }

    #[test]
    fn a_slice_that_doubles_beyond_what_is_small_is_found() {
        insta::assert_snapshot!(changes("MSH1106", &with(10), &with(140)));
        assert_eq!(changes("MSH1106", &with(1), &with(20)), "");
        assert_eq!(changes("MSH1106", &with(120), &with(140)), "");
    }
}
