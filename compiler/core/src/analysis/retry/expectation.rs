//! What to expect when calls fail now and then, and how much load a service should carry (D3, D10).

/// Calls to the last service for each request, when each fails with probability `failing` on its own
/// and `attempts` is the product over all hops.
pub fn expected_calls(attempts: f64, failing: f64) -> f64 {
    if failing >= 1.0 {
        attempts
    } else {
        (1.0 - failing.powf(attempts)) / (1.0 - failing)
    }
}

/// Requests that still fail after all attempts.
pub fn client_failure(attempts: f64, failing: f64) -> f64 {
    failing.powf(attempts)
}

/// How a service stands when retries set in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// It carries all the retries.
    Stable,
    /// It carries its load, but a failure can leave it stuck under its retries.
    Vulnerable,
    /// It does not carry its load.
    Overloaded,
}

impl Load {
    /// The name used in outputs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Vulnerable => "vulnerable",
            Self::Overloaded => "overloaded",
        }
    }
}

/// How a service with this load, capacity (both per second) and amplification stands.
pub fn load_state(load: f64, capacity: f64, amplification: f64) -> Load {
    if load >= capacity {
        Load::Overloaded
    } else if load * amplification > capacity {
        Load::Vulnerable
    } else {
        Load::Stable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tc_e1_to_e7_expected_calls_of_a_chain_of_27() {
        for (failing, expected) in [
            (0.01, 1.010_101),
            (0.1, 1.111_111),
            (0.3, 1.428_571),
            (0.5, 2.0),
            (0.9, 9.418_503),
            (0.99, 23.765_729),
            (1.0, 27.0),
        ] {
            assert!(
                (expected_calls(27.0, failing) - expected).abs() < 1e-5,
                "{failing}"
            );
        }
    }

    #[test]
    fn the_product_telescopes() {
        // Hop by hop, as D3 writes it before it telescopes.
        let (mut calls, mut failing) = (1.0, 0.3_f64);
        for _ in 0..3 {
            calls *= (1.0 - failing.powi(3)) / (1.0 - failing);
            failing = failing.powi(3);
        }
        assert!((expected_calls(27.0, 0.3) - calls).abs() < 1e-9);
    }

    #[test]
    fn tc_e8_what_the_client_still_sees() {
        assert!((client_failure(27.0, 0.9) - 0.058_150).abs() < 1e-6);
    }

    #[test]
    fn tc_f10_a_split_divides_what_is_expected() {
        let worst = 27.0;
        let expected = [0.9, 0.1].map(|share: f64| share * worst);
        assert!((expected[0] - 24.3).abs() < 1e-9 && (expected[1] - 2.7).abs() < 1e-9);
    }

    #[test]
    fn tc_m1_a_service_that_retries_can_hold_down() {
        assert_eq!(load_state(300.0, 1000.0, 27.0), Load::Vulnerable);
        assert_eq!(load_state(37.03, 1000.0, 27.0), Load::Stable);
        assert_eq!(load_state(37.04, 1000.0, 27.0), Load::Vulnerable);
        assert_eq!(load_state(1000.0, 1000.0, 1.0), Load::Overloaded);
    }
}
