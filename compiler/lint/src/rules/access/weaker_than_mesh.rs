//! `access/weaker-than-mesh`

use mesh_bundle::slice::MtlsMode;
use mesh_compiler::linked::{Kind, Source};

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A service with `mtls permissive` or `mtls off` in a mesh that says `mtls strict`. A mesh that says
    /// nothing is strict too, and then nobody has asked that every service be.
    ///
    /// ## Why it matters
    /// Who wrote `strict` for the whole mesh counts on it: that whoever calls a service is known, and that
    /// nothing travels in plaintext. One service makes it untrue.
    ///
    /// ## Examples
    /// ```kdl bad
    /// mesh example { trust-domain "example.test"; mtls strict }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; mtls permissive }
    /// ```
    /// ```kdl good
    /// mesh example { trust-domain "example.test"; mtls strict }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; probe "/healthz" }
    /// ```
    pub(crate) static WEAKER_THAN_MESH = {
        code: "MSH0702", name: "access/weaker-than-mesh",
        summary: "plaintext where the mesh says strict",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    let Some(whole) = mesh.mtls.filter(|whole| whole.value.is_none()) else {
        return;
    };
    for service in &mesh.services {
        let (Kind::Service, Some(mode), Source::Service(span)) =
            (&service.kind, service.mtls.value, service.mtls.source)
        else {
            continue;
        };
        let takes = match mode {
            MtlsMode::Permissive => "plaintext too",
            MtlsMode::Off => "plaintext only",
        };
        cx.report(
            WEAKER_THAN_MESH
                .at(
                    span,
                    format!("`{}` takes {takes} in a mesh that is strict", service.name.value),
                )
                .at("weaker than the mesh")
                .label(whole.span, "said for every service")
                .help("remove it once every peer has a proxy; what only looks whether the service lives needs a `probe`"),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(mesh: &str, service: &str) -> String {
        format!(
            r#"mesh m {{ trust-domain "m.example"; {mesh} }}
            service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; {service} }}"#
        )
    }

    #[test]
    fn a_service_that_is_weaker_is_found() {
        insta::assert_snapshot!(findings("MSH0702", &with("mtls strict", "mtls off")));
        insta::assert_snapshot!(findings("MSH0702", &with("mtls strict", "mtls permissive")));
    }

    #[test]
    fn nobody_asked_or_it_is_the_mesh_itself() {
        none("MSH0702", &with("", "mtls permissive"));
        none("MSH0702", &with("mtls permissive", "mtls off"));
        none("MSH0702", &with("mtls permissive", ""));
        none("MSH0702", &with("mtls strict", "mtls strict"));
    }
}
