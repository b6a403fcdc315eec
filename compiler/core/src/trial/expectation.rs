//! Tests of a policy: what they expect of a request, held against what becomes of it.

use super::{Branch, Call, Decision, Outcome, Refusal, TakenRoute, Trial, TrialError};
use crate::linked::LinkedMesh;
use crate::model::{Expect, Test, TestRequest, Verdict};

/// The result of one test.
#[derive(Debug)]
pub struct Report {
    /// What became of the request; an error where it can't be tried.
    pub outcome: Result<Outcome, TrialError>,
    /// One for each thing that was expected and is otherwise; empty: the test passed.
    pub failures: Vec<Expectation>,
}

impl Report {
    /// Whether everything was as expected.
    pub fn passed(&self) -> bool {
        self.outcome.is_ok() && self.failures.is_empty()
    }
}

/// Something that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// What was compared: `decision`, `route`, `to`, `service`, `attempts`, `status`, `reason`, `split`.
    pub field: &'static str,
    /// What the test says.
    pub expected: String,
    /// What is so.
    pub actual: String,
}

impl Trial<'_> {
    /// Runs one test.
    pub fn test(&mut self, test: &Test) -> Report {
        let outcome = self.run(&Call::from(&test.request));
        let failures = match &outcome {
            Ok(outcome) => test
                .expect
                .iter()
                .flat_map(|expect| compare(expect, outcome))
                .collect(),
            Err(_) => Vec::new(),
        };
        Report { outcome, failures }
    }
}

impl From<&TestRequest> for Call {
    fn from(request: &TestRequest) -> Self {
        let mut headers: Vec<(String, String)> = request
            .headers
            .iter()
            .map(|(name, value)| (name.to_lowercase(), value.clone()))
            .collect();
        if !request.cookies.is_empty() {
            let cookies: Vec<String> = request
                .cookies
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            headers.push(("cookie".to_owned(), cookies.join("; ")));
        }
        // A path with a query is what people copy from a log.
        let (path, inline) = match request.path.value.split_once('?') {
            Some((path, query)) => (path, query),
            None => (request.path.value.as_str(), ""),
        };
        let added = super::query_text(&request.query);
        let query: Vec<&str> = [inline, &added]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect();
        Self {
            method: request.method.value.clone(),
            path: path.to_owned(),
            query: query.join("&"),
            headers,
            from: request.from.as_ref().map(|from| from.value.clone()),
            to: request.to.value.clone(),
            host: request.host.as_ref().map(|host| host.value.clone()),
            port: request.port.map(|port| port.value),
            client_ip: request.client_ip.map(|ip| ip.value),
            peer_ip: request.peer_ip.map(|ip| ip.value),
            claims: request.claims.clone(),
        }
    }
}

/// A host that names the service.
pub(super) fn default_host(mesh: &LinkedMesh, service: &str) -> String {
    let hosts = mesh
        .service_named(service)
        .and_then(|id| mesh.service(id).example_hosts().next());
    hosts.unwrap_or_else(|| service.to_owned())
}

fn compare(expect: &Expect, outcome: &Outcome) -> Vec<Expectation> {
    let mut differences = Differences(Vec::new());
    let decision = match expect.verdict.value {
        Verdict::Allowed | Verdict::Split => Decision::Allowed,
        Verdict::Denied => Decision::Denied,
        Verdict::NoRoute => Decision::NoRoute,
    };
    differences.add("decision", decision.as_str(), outcome.decision.as_str());
    if decision != outcome.decision {
        // Everything else would only repeat it.
        return differences.0;
    }
    let route = outcome.route.as_ref();
    if let Some(name) = &expect.route {
        differences.add(
            "route",
            &name.value,
            route.map_or("none", |route| &route.name),
        );
    }
    if let Some(to) = &expect.to {
        let actual = one_of(route, |branch| branch.subset.as_deref());
        differences.add("to", &to.value, &actual);
    }
    if let Some(service) = &expect.service {
        let actual = one_of(route, |branch| Some(&branch.service));
        differences.add("service", &service.value, &actual);
    }
    if let Some(attempts) = &expect.attempts {
        let actual = route.map_or(0, |route| route.exchange.attempts.value);
        differences.add("attempts", &attempts.value.to_string(), &actual.to_string());
    }
    if let Some(status) = &expect.status {
        let actual = outcome
            .refusal
            .as_ref()
            .map(|refusal| refusal.status)
            .or(outcome.answer.as_ref().map(|answer| answer.status))
            .map_or("none".to_owned(), |status| status.to_string());
        differences.add("status", &status.value.to_string(), &actual);
    }
    if let Some(reason) = &expect.reason {
        differences.add(
            "reason",
            reason.value,
            outcome
                .refusal
                .as_ref()
                .map_or("none", |Refusal { reason, .. }| reason),
        );
    }
    if expect.verdict.value == Verdict::Split {
        differences.add("split", &expected_split(expect), &actual_split(route));
    }
    differences.0
}

struct Differences(Vec<Expectation>);

impl Differences {
    fn add(&mut self, field: &'static str, expected: &str, actual: &str) {
        if expected != actual {
            let (expected, actual) = (expected.to_owned(), actual.to_owned());
            self.0.push(Expectation {
                field,
                expected,
                actual,
            });
        }
    }
}

/// The one thing that every branch with a weight has, or all of them.
fn one_of<'b>(route: Option<&'b TakenRoute>, read: fn(&'b Branch) -> Option<&'b str>) -> String {
    let branches = route.map_or(&[][..], |route| &route.branches);
    let mut names: Vec<&str> = branches
        .iter()
        .filter(|branch| branch.weight > 0)
        .map(|branch| read(branch).unwrap_or("all endpoints"))
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(" ")
    }
}

fn expected_split(expect: &Expect) -> String {
    let shares = expect.shares.iter().map(|share| {
        let subset = share.subset.as_ref().map(|subset| subset.value.as_str());
        (subset, share.share.value)
    });
    split_text(shares)
}

fn actual_split(route: Option<&TakenRoute>) -> String {
    let branches = route.map_or(&[][..], |route| &route.branches);
    split_text(
        branches
            .iter()
            .map(|branch| (branch.subset.as_deref(), branch.ten_thousandths())),
    )
}

/// Branches by name; those that take nothing are left out.
fn split_text<'s>(shares: impl Iterator<Item = (Option<&'s str>, u32)>) -> String {
    let mut shares: Vec<(Option<&str>, u32)> = shares.filter(|(_, share)| *share > 0).collect();
    shares.sort_unstable();
    let text = shares.iter().map(|(subset, share)| {
        format!("{} {}", subset.unwrap_or("all endpoints"), percent(*share))
    });
    text.collect::<Vec<_>>().join(", ")
}

/// A share of 10,000 as policy writes it.
pub fn percent(share: u32) -> String {
    let text = format!("{}.{:02}", share / 100, share % 100);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

impl Branch {
    /// Its share, rounded to the hundredth of a per cent that a test can say.
    pub fn ten_thousandths(&self) -> u32 {
        let total = u128::from(self.total.max(1));
        let share = (u128::from(self.weight) * 10_000 + total / 2) / total;
        u32::try_from(share).unwrap_or(10_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_written_as_policy_writes_them() {
        assert_eq!(percent(9000), "90%");
        assert_eq!(percent(50), "0.5%");
        assert_eq!(percent(3333), "33.33%");
        assert_eq!(percent(10_000), "100%");
        assert_eq!(percent(0), "0%");
    }
}
