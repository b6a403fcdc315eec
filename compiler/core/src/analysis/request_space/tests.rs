//! Sets against a naive reading of conditions, on every request of a small world.

use mesh_bundle::slice::{
    Condition, FieldMatch, PathPattern, PathPatternKind, RouteMatch, StringMatch, StringMatchKind,
};
use proptest::prelude::*;

use super::*;

fn template(text: &str) -> Condition {
    Condition::Path(vec![PathPattern {
        kind: PathPatternKind::Template(text.to_owned()),
        ignore_case: false,
    }])
}

fn header(name: &str, values: &[&str]) -> Condition {
    let exact = |value: &&str| StringMatch {
        kind: StringMatchKind::Exact((*value).to_owned()),
        ignore_case: false,
    };
    Condition::Header(FieldMatch {
        name: name.to_owned(),
        values: values.iter().map(exact).collect(),
    })
}

fn not(condition: Condition) -> Condition {
    Condition::Not(Box::new(condition))
}

fn space(conditions: &[Condition]) -> Space {
    Space::of_conditions(conditions, Repeated::One).unwrap()
}

#[test]
fn a_union_covers_what_none_of_its_parts_covers() {
    let whole = space(&[template("/a/**")]);
    let get = space(&[template("/a/**"), Condition::Method(vec!["GET".to_owned()])]);
    let others = space(&[not(Condition::Method(vec!["GET".to_owned()]))]);
    assert_eq!(whole.is_covered_by(&get), Ok(false));
    assert_eq!(whole.is_covered_by(&others), Ok(false));
    assert_eq!(whole.is_covered_by(&get.union(&others).unwrap()), Ok(true));
    let left = whole
        .difference(&get)
        .unwrap()
        .pick(&Likely::default())
        .unwrap()
        .unwrap();
    assert_eq!((left.method.as_str(), left.path.as_str()), ("POST", "/a"));
}

#[test]
fn a_header_sent_twice_fits_two_conditions_of_a_match_but_not_of_an_allow() {
    let both = [header("x", &["1"]), header("x", &["2"])];
    let point = space(&both).pick(&Likely::default()).unwrap().unwrap();
    assert_eq!(
        point.fields_of(FieldKind::Header).collect::<Vec<_>>(),
        [("x", "1"), ("x", "2")]
    );
    assert!(
        Space::of_conditions(&both, Repeated::Every)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn present_and_absent_exclude_each_other() {
    let contradiction = [header("x", &[]), not(header("x", &[]))];
    assert!(space(&contradiction).is_empty());
    let all = space(&[header("x", &[])])
        .union(&space(&[not(header("x", &[]))]))
        .unwrap();
    assert_eq!(Space::everything().is_covered_by(&all), Ok(true));
}

#[test]
fn likely_callers_are_picked_where_the_set_has_them() {
    let any = Space::from(&[Principal::Any]).unwrap();
    let caller = "spiffe://d/service/a".to_owned();
    let likely = Likely {
        callers: vec![caller.clone()],
        ..Likely::default()
    };
    assert_eq!(any.pick(&likely).unwrap().unwrap().from, Some(caller));
    assert_eq!(
        any.intersection(&Space::from(&[Principal::Unauthenticated]).unwrap())
            .unwrap()
            .cells
            .len(),
        0
    );
}

#[test]
fn a_difference_past_the_bound_is_unknown() {
    // Each header can be left out of any of the products that came before.
    let mut many = Space::nothing();
    for index in 0..64 {
        let names: Vec<Condition> = (0..64)
            .map(|bit| header(&format!("h{}", (bit * 7 + index * 13) % 97), &["1"]))
            .collect();
        many = many.union(&space(&names)).unwrap();
    }
    let all = Space::everything().difference(&many);
    assert_eq!(all.map(|left| left.cells.len()), Err(CapExceeded::Cells));
    // One request is found all the same.
    assert_eq!(Space::everything().is_covered_by(&many), Ok(false));
}

const METHODS: [&str; 3] = ["GET", "POST", "X"];
const PATHS: [&str; 6] = ["/", "/a", "/a/", "/a/b", "/a/b/c", "/b"];
const VALUES: [&[&str]; 5] = [&[], &["1"], &["2"], &["1", "2"], &["3"]];

fn world() -> impl Iterator<Item = Point> {
    let picked = Space::everything()
        .pick(&Likely::default())
        .unwrap()
        .unwrap();
    METHODS.iter().flat_map(move |method| {
        let picked = picked.clone();
        PATHS.iter().flat_map(move |path| {
            let picked = picked.clone();
            VALUES.iter().map(move |values| {
                let mut point = picked.clone();
                point.method = (*method).to_owned();
                point.path = (*path).to_owned();
                if !values.is_empty() {
                    let values = values.iter().map(|value| (*value).to_owned()).collect();
                    point
                        .fields
                        .insert((FieldKind::Header, "x".to_owned()), values);
                }
                point
            })
        })
    })
}

/// What a `match` asks of a point, read straight from the design.
fn naive(condition: &Condition, point: &Point, negated: bool) -> bool {
    match condition {
        Condition::Not(inner) => naive(inner, point, !negated),
        Condition::Method(methods) => methods.contains(&point.method) != negated,
        Condition::Path(patterns) => {
            let fits = patterns.iter().any(|pattern| match &pattern.kind {
                PathPatternKind::Template(text) => naive_template(text, &point.path),
                PathPatternKind::Regex(_) => unreachable!("not generated"),
            });
            fits != negated
        }
        Condition::Header(field) => {
            let lines: Vec<&str> = point
                .fields_of(FieldKind::Header)
                .map(|(_, value)| value)
                .collect();
            let fits = |line: &&str| {
                field.values.is_empty()
                    || field
                        .values
                        .iter()
                        .any(|value| value.kind == StringMatchKind::Exact((*line).to_owned()))
            };
            if negated {
                lines.is_empty() || !lines.iter().all(fits)
            } else {
                lines.iter().any(fits)
            }
        }
        _ => unreachable!("not generated"),
    }
}

fn naive_template(template: &str, path: &str) -> bool {
    let mut path_segments = path.split('/').skip(1);
    let mut first = true;
    for segment in template.split('/').skip(1) {
        if segment == "**" {
            return true;
        }
        match path_segments.next() {
            Some(text) if segment == "*" && !text.is_empty() => {}
            Some(text) if segment == text => {}
            _ => return false,
        }
        first = false;
    }
    !first && path_segments.next().is_none()
}

fn any_condition() -> impl Strategy<Value = Condition> {
    let plain = prop_oneof![
        prop::sample::subsequence(METHODS.to_vec(), 1..3).prop_map(|methods| Condition::Method(
            methods.into_iter().map(str::to_owned).collect()
        )),
        prop::sample::select(vec![
            "/", "/a", "/a/*", "/a/**", "/*", "/**", "/*/b", "/a/b/**"
        ])
        .prop_map(template),
        prop::sample::subsequence(vec!["1", "2", "3"], 0..3)
            .prop_map(|values| header("x", &values)),
    ];
    (plain, any::<bool>()).prop_map(|(plain, negated)| if negated { not(plain) } else { plain })
}

fn any_match() -> impl Strategy<Value = RouteMatch> {
    prop::collection::vec(any_condition(), 0..4).prop_map(|conditions| RouteMatch { conditions })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn sets_hold_what_conditions_ask(one in any_match(), two in any_match(), three in any_match()) {
        let holds = |each: &RouteMatch, point: &Point| {
            each.conditions.iter().all(|condition| naive(condition, point, false))
        };
        let [a, b, c] = [&one, &two, &three].map(|each| Space::of_match(each).unwrap());
        let both = a.intersection(&b).unwrap();
        let rest = a.difference(&b.union(&c).unwrap()).unwrap();
        for point in world() {
            prop_assert_eq!(a.contains(&point), holds(&one, &point));
            prop_assert_eq!(both.contains(&point), holds(&one, &point) && holds(&two, &point));
            let left = holds(&one, &point) && !holds(&two, &point) && !holds(&three, &point);
            prop_assert_eq!(rest.contains(&point), left, "{:?}", point);
        }
        for (set, known) in [(&a, [true, false, false]), (&both, [true, true, false])] {
            if let Some(point) = set.pick(&Likely::default()).unwrap() {
                prop_assert!(set.contains(&point));
                prop_assert!(!known[0] || holds(&one, &point));
                prop_assert!(!known[1] || holds(&two, &point));
            }
        }
        if let Some(point) = rest.pick(&Likely::default()).unwrap() {
            prop_assert!(holds(&one, &point) && !holds(&two, &point) && !holds(&three, &point), "{:?}", point);
        }
    }
}

#[test]
fn a_match_of_more_conditions_than_anybody_writes_is_not_known() {
    let conditions: Vec<Condition> = (0..10_000)
        .map(|number| header(&format!("h{number}"), &["1"]))
        .collect();
    assert!(Space::of_conditions(&conditions, Repeated::One).is_err());
    assert!(Space::of_conditions(&conditions[..100], Repeated::One).is_ok());
}
