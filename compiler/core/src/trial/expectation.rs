//! Tests of a policy: what they expect of a request, held against what becomes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_syntax::Span;

use super::{
    AnsweredHeader, Branch, Call, Decision, Outcome, TakenRoute, Trial, TrialError, quoted,
};
use crate::linked::LinkedMesh;
use crate::model::{Expect, HeaderValue, Setting, Share, Spanned, Test, TestRequest, Verdict};
use crate::value::duration_text;

mod because;

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
    /// What was compared: `decision`, `split`, or the word of `expect` that says it.
    pub field: &'static str,
    /// What the test says.
    pub expected: String,
    /// What is so.
    pub actual: String,
    /// Where the test says it.
    pub span: Span,
    /// Why what was expected did not come to be, where something says so: a rule or a route that lost.
    pub because: Vec<Reason>,
}

/// Why something that was expected lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// A sentence without its stop: "route `beta` does not match `query beta`".
    pub text: String,
    /// Where that stands.
    pub span: Option<Span>,
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
            is_connection: request.is_connection,
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
    let expected = match expect.verdict.value {
        Verdict::Allowed | Verdict::Split => Decision::Allowed.as_str(),
        Verdict::Denied => Decision::Denied.as_str(),
        Verdict::NoRoute => Decision::NoRoute.as_str(),
        Verdict::Limited => LIMITED,
    };
    let is_limited = expect.verdict.value == Verdict::Limited
        && outcome.decision == Decision::Allowed
        && !outcome.limits.is_empty();
    let actual = if is_limited {
        LIMITED
    } else {
        outcome.decision.as_str()
    };
    differences.add("decision", expect.verdict.span, expected, actual);
    if let Some(difference) = differences.0.first_mut() {
        // Everything else would only repeat it.
        difference.because = because::decision(expect, outcome);
        return differences.0;
    }
    differences.way(expect, outcome);
    differences.answer(expect, outcome, is_limited);
    differences.exchange(expect, outcome);
    differences.arrival(expect, outcome);
    differences.0
}

/// As outputs say it of a request that a rate limit counts.
const LIMITED: &str = "limited";
const NONE: &str = "none";

#[derive(Debug)]
struct Differences(Vec<Expectation>);

impl Differences {
    fn add(&mut self, field: &'static str, span: Span, expected: &str, actual: &str) {
        if expected != actual {
            let (expected, actual) = (expected.to_owned(), actual.to_owned());
            self.0.push(Expectation {
                field,
                expected,
                actual,
                span,
                because: Vec::new(),
            });
        }
    }

    fn text<T: AsRef<str>>(
        &mut self,
        field: &'static str,
        said: Option<&Spanned<T>>,
        actual: &str,
    ) {
        if let Some(said) = said {
            self.add(field, said.span, said.value.as_ref(), actual);
        }
    }

    /// Which rule and route, and where it goes.
    fn way(&mut self, expect: &Expect, outcome: &Outcome) {
        let route = outcome.route.as_ref();
        let rule = outcome.rule.as_ref().map_or(NONE, |rule| &rule.name);
        self.text("rule", expect.rule.as_ref(), rule);
        if let (Some(difference), Some(rule)) = (self.0.last_mut(), &expect.rule) {
            difference.because = because::rule(rule, outcome);
        }
        let before = self.0.len();
        let name = route.map_or(NONE, |route| &route.name);
        self.text("route", expect.route.as_ref(), name);
        if let (Some(difference), Some(name)) = (self.0.get_mut(before), &expect.route) {
            difference.because = because::route(&name.value, outcome);
        }
        let subset = one_of(route, |branch| branch.subset.as_deref());
        self.text("to", expect.to.as_ref(), &subset);
        let service = one_of(route, |branch| Some(&branch.service));
        self.text("service", expect.service.as_ref(), &service);
        if expect.verdict.value == Verdict::Split {
            let says_services = expect.shares.iter().any(|share| share.service.is_some());
            let actual = actual_split(route, says_services);
            self.add(
                "split",
                expect.verdict.span,
                &expected_split(&expect.shares),
                &actual,
            );
        }
    }

    /// What the proxy itself answers.
    fn answer(&mut self, expect: &Expect, outcome: &Outcome, is_limited: bool) {
        let refusal = outcome.refusal.as_ref();
        let answer = outcome.answer.as_ref();
        let limit = outcome.limits.first().filter(|_| is_limited);
        let status = refusal.and_then(|refusal| refusal.status);
        let status = limit.map(|limit| limit.status).or(status);
        let status = status.or(answer.map(|answer| answer.status));
        if let Some(said) = &expect.status {
            let actual = status.map_or(NONE.to_owned(), |status| status.to_string());
            self.add("status", said.span, &said.value.to_string(), &actual);
        }
        if let Some(said) = &expect.reason {
            let actual = match (limit, refusal) {
                (Some(_), _) => "rate_limited",
                (None, Some(refusal)) => match refusal.reason.split_once(':') {
                    Some((kind, _)) if kind == said.value => kind,
                    _ => &refusal.reason,
                },
                (None, None) => NONE,
            };
            self.add("reason", said.span, said.value, actual);
        }
        let location = answer.and_then(|answer| answer.location.as_deref());
        self.text(
            "location",
            expect.location.as_ref(),
            location.unwrap_or(NONE),
        );
        if let Some(said) = &expect.body {
            let actual = answer.map_or(NONE.to_owned(), |answer| quoted(&answer.body));
            self.add("body", said.span, &quoted(&said.value), &actual);
        }
        if let Some(said) = &expect.authorizer {
            let names = outcome.asked.iter().map(|asked| asked.authorizer.as_str());
            let names = listed(names);
            if !outcome
                .asked
                .iter()
                .any(|asked| asked.authorizer == said.value)
            {
                self.add("authorizer", said.span, &said.value, &names);
            }
        }
        let delays = outcome.faults.iter().filter_map(|fault| fault.delay);
        let delays = listed(delays.map(|(by, share)| delay_text(by, share)));
        if let Some(said) = &expect.delay {
            let (by, share) = said.value;
            self.add("delay", said.span, &delay_text(by, share), &delays);
        }
        let aborts = outcome.faults.iter().filter_map(|fault| fault.abort);
        let aborts = listed(aborts.map(|(status, share)| format!("{status} {}", percent(share))));
        if let Some(said) = &expect.abort {
            let (status, share) = said.value;
            self.add(
                "abort",
                said.span,
                &format!("{status} {}", percent(share)),
                &aborts,
            );
        }
    }

    /// Attempts and times.
    fn exchange(&mut self, expect: &Expect, outcome: &Outcome) {
        let exchange = outcome.route.as_ref().map(|route| &route.exchange);
        if let Some(said) = &expect.attempts {
            let actual = exchange.map_or(0, |exchange| exchange.attempts.value);
            self.add(
                "attempts",
                said.span,
                &said.value.to_string(),
                &actual.to_string(),
            );
        }
        let mut time =
            |field, said: &Option<Spanned<Setting<Duration>>>, actual: Option<Duration>| {
                if let Some(said) = said {
                    let wanted = match said.value {
                        Setting::Removed => None,
                        Setting::Value(time) => Some(time),
                    };
                    self.add(field, said.span, &time_text(wanted), &time_text(actual));
                }
            };
        let timeout = exchange.and_then(|exchange| exchange.timeout.value);
        time("timeout", &expect.timeout, timeout);
        // Without a limit of its own a try may take as long as the whole.
        let per_try = exchange
            .and_then(|exchange| exchange.per_try.value)
            .or(timeout);
        time("per-try", &expect.per_try, per_try);
    }

    /// The request as it arrives, and its answer as it comes back.
    fn arrival(&mut self, expect: &Expect, outcome: &Outcome) {
        let arrivals = &outcome.arrivals;
        let paths = listed(arrivals.iter().map(|arrival| arrival.path.as_str()));
        self.text("path", expect.path.as_ref(), &paths);
        let hosts = listed(arrivals.iter().map(|arrival| arrival.host.as_str()));
        self.text("host", expect.host.as_ref(), &hosts);
        for said in &expect.request_headers {
            let lines = |name: &str| {
                let each = arrivals.iter().map(|arrival| {
                    let lines = arrival.headers.iter().filter(|(own, _)| own == name);
                    let lines: Vec<&str> = lines.map(|(_, line)| line.as_str()).collect();
                    // What is not there is told from what is empty.
                    if lines.is_empty() {
                        NONE.to_owned()
                    } else {
                        format!("{:?}", lines.join(", "))
                    }
                });
                listed(each)
            };
            let actual = lines(&said.value.name);
            self.header("request-header", said.span, &said.value.value, &actual);
        }
        for said in &expect.response_headers {
            let each = arrivals
                .iter()
                .map(|arrival| answered_text(&arrival.answered(&said.value.name)));
            self.header(
                "response-header",
                said.span,
                &said.value.value,
                &listed(each),
            );
        }
    }

    fn header(&mut self, field: &'static str, span: Span, said: &HeaderValue, actual: &str) {
        match said {
            HeaderValue::Is(value) => self.add(field, span, &format!("{value:?}"), actual),
            HeaderValue::Absent => self.add(field, span, NONE, actual),
            HeaderValue::Present if actual == NONE => self.add(field, span, "there", NONE),
            HeaderValue::Present => {}
        }
    }
}

fn answered_text(header: &AnsweredHeader) -> String {
    let values = header.values.join(", ");
    match (header.is_kept, header.values.is_empty()) {
        (false, true) => NONE.to_owned(),
        (false, false) => format!("{values:?}"),
        (true, true) => "whatever the service says".to_owned(),
        (true, false) => format!("whatever the service says, and {values:?}"),
    }
}

fn delay_text(by: Duration, share: u32) -> String {
    format!("{} {}", duration_text(by), percent(share))
}

fn time_text(time: Option<Duration>) -> String {
    time.map_or(NONE.to_owned(), duration_text)
}

/// Each different thing once, in order.
fn listed<T: Into<String>>(things: impl Iterator<Item = T>) -> String {
    let mut all: Vec<String> = Vec::new();
    for thing in things.map(Into::into) {
        if !all.contains(&thing) {
            all.push(thing);
        }
    }
    if all.is_empty() {
        NONE.to_owned()
    } else {
        all.join(" or ")
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
        NONE.to_owned()
    } else {
        names.join(" ")
    }
}

/// A branch as it is named in a split.
type Named<'s> = (Option<&'s str>, Option<&'s str>);

fn expected_split(shares: &[Share]) -> String {
    let shares = shares.iter().map(|share| {
        let text = |name: &'_ Option<Spanned<String>>| name.as_ref().map(|name| name.value.clone());
        (text(&share.service), text(&share.subset), share.share.value)
    });
    let shares: Vec<_> = shares.collect();
    split_text(
        shares
            .iter()
            .map(|(service, subset, share)| ((service.as_deref(), subset.as_deref()), *share)),
    )
}

fn actual_split(route: Option<&TakenRoute>, says_services: bool) -> String {
    let branches = route.map_or(&[][..], |route| &route.branches);
    split_text(branches.iter().map(|branch| {
        let service = says_services.then_some(branch.service.as_str());
        (
            (service, branch.subset.as_deref()),
            branch.ten_thousandths(),
        )
    }))
}

/// Branches by name, those of one name together; those that take nothing are left out.
fn split_text<'s>(shares: impl Iterator<Item = (Named<'s>, u32)>) -> String {
    let mut together: BTreeMap<Named<'_>, u32> = BTreeMap::new();
    for (name, share) in shares.filter(|(_, share)| *share > 0) {
        *together.entry(name).or_default() += share;
    }
    let text = together.iter().map(|((service, subset), share)| {
        let place = match (service, subset) {
            (Some(service), Some(subset)) => format!("{service}/{subset}"),
            (Some(service), None) => (*service).to_owned(),
            (None, subset) => subset.unwrap_or("all endpoints").to_owned(),
        };
        format!("{place} {}", percent(*share))
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
