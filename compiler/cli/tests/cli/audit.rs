//! `meshc audit`

use crate::support::Fixture;

const MESH: &str = "mesh shop {
    trust-domain \"shop.example\"
    team pay { owns \"pay/**\"; service payments }
}
gateway public {
    listen 8080 { host \"shop.example\" }
    allow unauthenticated
    route all { to web }
}
service web {
    port 8080
    endpoints { static \"10.0.0.1:8080\" }
    allow public
    calls payments
}
service unused {
    port 8080
    endpoints { static \"10.0.0.3:8080\" }
    allow any { method GET }
    deny web
    mtls permissive
}
invariant \"only web calls payments\" {
    reaches payments { only web }
}
";

const PAYMENTS: &str = "service payments {
    port 8080
    endpoints { static \"10.0.0.2:8080\" }
    allow web {
        method POST
    }
}
";

fn fixture() -> Fixture {
    let fixture = Fixture::empty();
    fixture.write("mesh.kdl", MESH);
    fixture.write("pay/payments.kdl", PAYMENTS);
    fixture.commit();
    fixture
}

#[test]
fn it_says_who_reaches_what_by_which_rule_since_when() {
    let fixture = fixture();
    // One line of a rule counts as the rule; what stands beside it does not.
    fixture.write("pay/payments.kdl", PAYMENTS.replace("POST", "POST PUT"));
    fixture.commit();
    let run = fixture.meshc(&["audit", "--format", "json"]);
    let report = run.json();
    assert_eq!(run.code, Some(0), "{report:#}");
    let services = report["services"].as_array().unwrap();
    let of = |name: &str| services.iter().find(|it| it["name"] == name).unwrap();
    let payments = of("payments");
    assert_eq!(payments["owner"], "pay");
    assert_eq!(
        payments["from_outside"],
        serde_json::json!(["public", "web", "payments"])
    );
    let grant = &payments["grants"][0];
    assert_eq!(
        (
            grant["who"].as_str(),
            grant["effect"].as_str(),
            grant["line"].as_u64()
        ),
        (Some("web"), Some("whole"), Some(4)),
        "{grant:#}"
    );
    assert_eq!(grant["rule"], "allow web { method POST PUT }");
    let (first, second) = (
        &of("web")["grants"][0]["since"]["commit"],
        &grant["since"]["commit"],
    );
    assert_ne!(first, second);
    assert_eq!(*second, report["commit"]);
    let unused = of("unused");
    assert_eq!(unused["grants"][0]["who"], "any");
    assert_eq!(unused["grants"][0]["effect"], "part", "{unused:#}");
    assert_eq!(unused["encryption"]["8080"], "permissive");
    assert_eq!(unused["denials"][0]["rule"], "deny web");
    assert_eq!(report["invariants"][0]["holds"], true);

    // What is not committed has no commit.
    fixture.write("pay/payments.kdl", PAYMENTS.replace("POST", "PUT"));
    let report = fixture.meshc(&["audit", "--format", "json"]).json();
    assert_eq!(
        report["uncommitted"],
        serde_json::json!(["pay/payments.kdl"])
    );
    let services = report["services"].as_array().unwrap();
    let payments = services.iter().find(|it| it["name"] == "payments").unwrap();
    assert!(payments["grants"][0]["since"].is_null());
}

#[test]
fn people_read_it_and_a_violated_invariant_is_a_finding() {
    let fixture = fixture();
    let text = fixture.meshc(&["audit"]).stdout;
    for part in [
        "service payments of team pay: spiffe://shop.example/service/payments",
        "from outside public → web → payments",
        "allow web { method POST }",
        "[pay/payments.kdl:4, since ",
        "holds  \"only web calls payments\"",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let document = fixture.meshc(&["audit", "--format", "markdown"]).stdout;
    assert!(
        document.contains("| web | `allow web { method POST }` | whole | pay/payments.kdl:4 |"),
        "{document}"
    );
    fixture.write(
        "pay/payments.kdl",
        PAYMENTS.replace("allow web", "allow any"),
    );
    let run = fixture.meshc(&["audit"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stdout.contains("VIOLATED"), "{run:?}");
}
