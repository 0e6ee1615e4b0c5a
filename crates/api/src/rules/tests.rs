//! Rules by table.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

#[test]
fn an_environment_names_a_class_always() {
    let mut environment = Environment::new("e", Default::default());
    environment.defaults();
    assert_eq!(environment.spec.class_name.as_deref(), Some(DEFAULT_CLASS));
}

#[test]
fn quantities_and_what_is_not_supported_are_told_with_path_and_value() {
    let quantity = |text: &str| Some(Quantity(text.to_owned()));
    let told = |spec: EnvironmentClassSpec| -> Vec<String> {
        let errors = EnvironmentClass::new("c", spec).validate();
        let shown = |error: FieldError| format!("{}: {}", error.path, error.message);
        errors.into_iter().map(shown).collect()
    };
    let sized = |cpu: &str, memory: &str| EnvironmentClassSpec {
        resources: Resources {
            cpu: quantity(cpu),
            memory: quantity(memory),
            ..Resources::default()
        },
        ..EnvironmentClassSpec::default()
    };
    assert_eq!(told(sized("10m", "16Mi")), [""; 0]);
    assert_eq!(
        told(sized("1m", "lots")),
        [
            "spec.resources.cpu: Invalid value: \"1m\": must be at least 10m",
            "spec.resources.memory: Invalid value: \"lots\": \"lots\" is no quantity; write for example 500m, 2 or 4Gi",
        ]
    );
    assert_eq!(told(sized("1e2147483647", "1e-2147483648")).len(), 2);
    let spec = EnvironmentClassSpec {
        isolation: Isolation::VM,
        ..EnvironmentClassSpec::default()
    };
    assert_eq!(
        told(spec),
        ["spec.isolation: Unsupported value: \"VM\": supported values: \"Sandbox\""]
    );
}

#[test]
fn what_a_message_repeats_of_a_value_is_bounded() {
    let error = FieldError::invalid("x", "ü".repeat(1 << 20), "must be short");
    assert!(error.message.len() < 1000, "{}", error.message.len());
    assert!(error.message.ends_with("…\": must be short"));
}

#[test]
fn names_are_dns_labels() {
    assert!(is_label("a-1") && is_name("a.b-c"));
    for bad in ["", "-a", "a-", "A", "a_b", "a/b", ".."] {
        assert!(!is_label(bad) && !is_name(bad), "{bad}");
    }
}

#[test]
fn labels_are_as_in_kubernetes() {
    for good in ["a", "A_b.c-1", "example.com/a", "boatyard.dev/opened-from"] {
        assert!(is_label_key(good), "{good}");
    }
    let long = "a".repeat(64);
    for bad in ["", "a b", "-a", "a/", "/a", "a/b/c", "A.com/b", &long] {
        assert!(!is_label_key(bad), "{bad}");
    }
    assert!(is_label_value("") && is_label_value("v1.2_x"));
    assert!(!is_label_value("a/b") && !is_label_value("ü") && !is_label_value(&long));
}

#[test]
fn requests_are_at_most_limits_and_rates_are_quantities() {
    let quantity = |text: &str| Some(Quantity(text.to_owned()));
    let spec = EnvironmentClassSpec {
        resources: Resources {
            cpu: quantity("1"),
            memory: quantity("1Gi"),
            requests: Some(Requests {
                cpu: quantity("1500m"),
                memory: quantity("1Gi"),
            }),
            network: Some(Bandwidth {
                egress: quantity("100M"),
                ingress: quantity("1k"),
            }),
            ..Resources::default()
        },
        ..EnvironmentClassSpec::default()
    };
    let errors = EnvironmentClass::new("c", spec).validate();
    let told: Vec<String> = errors
        .into_iter()
        .map(|error| format!("{}: {}", error.path, error.message))
        .collect();
    assert_eq!(
        told,
        [
            "spec.resources.network.ingress: Invalid value: \"1k\": must be at least 64k",
            "spec.resources.requests.cpu: Invalid value: \"1500m\": must be at most the limit in spec.resources.cpu",
        ]
    );
}
