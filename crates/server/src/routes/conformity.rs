//! Holds our OpenAPI document against upstream's facts: `tests/operations.json` has each operation
//! and schema of upstream's API 0.3.0 with SDK 0.28.0.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// Where ours differs on purpose. A difference that is gone has to be removed here.
const DIFFERENCES: &[(&str, &str)] = &[
    ("Error.details", "one message says it all"),
    ("Error.inner_error", "causes are in the message"),
    ("ForkInstanceRequest.tags", "forks of one source can be told apart"),
    ("ForkSnapshotRequest.tags", "forks of one snapshot can be told apart"),
    ("Instance.auto_standby", "no such feature yet"),
    ("Instance.current_phase", "no such feature yet"),
    ("Instance.current_phase_since", "no such feature yet"),
    ("Instance.gpu", "no such feature"),
    ("Instance.health_check", "no such feature yet"),
    ("Instance.phase_durations_ms", "no such feature yet"),
    ("Instance.restart_policy", "no such feature yet"),
    ("Instance.restart_status", "no such feature yet"),
    ("Instance.snapshot_policy", "no such feature yet"),
    ("Instance.volumes", "no such feature yet"),
    ("Resources.disk_io", "no limit is kept for all disks together"),
    ("Resources.gpu", "no such feature"),
];

fn ours() -> Value {
    super::Api::new().document
}

fn theirs() -> Value {
    serde_json::from_str(include_str!("../../tests/operations.json")).unwrap()
}

/// Follows references.
fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(name) => &document["components"]["schemas"][name.rsplit('/').next().unwrap()],
        None => schema,
    }
}

/// The schema of something that may be null as well.
fn not_null<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let one_of = schema["oneOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = one_of.iter().find(|schema| schema["type"] != "null");
    resolve(document, found.unwrap_or(schema))
}

fn type_of(schema: &Value) -> String {
    match &schema["type"] {
        Value::Array(types) => types.iter().find(|name| *name != "null").cloned().unwrap_or_default(),
        name => name.clone(),
    }
    .as_str()
    .unwrap_or_default()
    .to_owned()
}

/// Notes what differs between a field of theirs and ours.
fn compare_field(document: &Value, place: &str, their: &Value, our: &Value, found: &mut Vec<String>) {
    let our = not_null(document, our);
    let their_type = their["type"].as_str().unwrap_or_default();
    let kind = match their_type {
        "integer" | "number" | "boolean" | "string" | "object" => their_type,
        _ if their_type.starts_with("array") => "array",
        _ => "", // compared by its own name
    };
    if !kind.is_empty() && type_of(our) != kind {
        found.push(format!("{place}: type {} instead of {kind}", type_of(our)));
    }
    if let Some(words) = their["enum"].as_array() {
        let set = |words: &[Value]| words.iter().map(Value::to_string).collect::<BTreeSet<_>>();
        let ours = our["enum"].as_array().map(|words| set(words)).unwrap_or_default();
        if set(words) != ours {
            found.push(format!("{place}: enum {ours:?}"));
        }
    }
    for limit in ["pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxProperties"] {
        let (wanted, is) = (&their[limit], &our[limit]);
        // Of Rust's unsigned numbers the document always tells that they are not negative.
        if !wanted.is_null()
            && wanted.as_f64() != is.as_f64().or(Some(0.0)).filter(|_| !wanted.is_string())
            && wanted != is
        {
            found.push(format!("{place}: {limit} {is} instead of {wanted}"));
        }
    }
}

fn compare_schema(document: &Value, name: &str, their: &Value, our: &Value, found: &mut Vec<String>) {
    let our = not_null(document, our);
    if their["enum"].is_array() {
        return compare_field(document, name, their, our, found);
    }
    let required: BTreeSet<&str> =
        our["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let fields = their["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut known = BTreeSet::new();
    for field in fields {
        let field_name = field["name"].as_str().unwrap();
        known.insert(field_name);
        let place = format!("{name}.{field_name}");
        let Some(ours) = our["properties"].get(field_name) else {
            found.push(format!("{place}: missing"));
            continue;
        };
        // What we always give, a client may go without; what we want from a client is theirs.
        let is_request = name.ends_with("Request");
        let must = field["required"] == json!(true);
        if must && !required.contains(field_name) || is_request && !must && required.contains(field_name) {
            found.push(format!("{place}: required {}", required.contains(field_name)));
        }
        compare_field(document, &place, field, ours, found);
    }
    let extra = our["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    found.extend(
        extra.filter(|field| !known.contains(field)).map(|field| format!("{name}.{field}: ours alone")),
    );
}

/// All differences: of operations, of their parameters, of their documents.
fn differences() -> Vec<String> {
    let (theirs, ours) = (theirs(), ours());
    let mut found = Vec::new();
    let mut schemas = BTreeMap::new();
    for operation in theirs["operations"].as_array().unwrap() {
        let (method, path) = (operation["method"].as_str().unwrap(), operation["path"].as_str().unwrap());
        if super::absent::OPERATIONS.iter().any(|(m, p, _, _)| (*m, *p) == (method, path)) {
            continue;
        }
        let our = &ours["paths"][path][method.to_lowercase()];
        let place = format!("{method} {path}");
        if our.is_null() {
            found.push(format!("{place}: missing"));
            continue;
        }
        if our["operationId"] != operation["id"] {
            found.push(format!("{place}: operation id {}", our["operationId"]));
        }
        let parameters = our["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        for query in operation["query"].as_array().into_iter().flatten() {
            let name = &query["name"];
            match parameters.iter().find(|our| our["name"] == *name && our["in"] == "query") {
                None => found.push(format!("{place}: parameter {name} missing")),
                Some(our) => {
                    let wanted = query["required"].as_bool().unwrap_or(false);
                    if our["required"].as_bool().unwrap_or(false) != wanted {
                        found.push(format!("{place}: parameter {name} required"));
                    }
                    compare_field(&ours, &format!("{place}: {name}"), query, &our["schema"], &mut found);
                }
            }
        }
        for (status, response) in operation["responses"].as_object().into_iter().flatten() {
            let is_success = status.starts_with('2');
            let our = if is_success { &our["responses"][status] } else { &our["responses"]["default"] };
            if our.is_null() {
                found.push(format!("{place}: status {status} missing"));
            }
            let schema = our["content"].as_object().and_then(|types| types.values().next());
            let schema = schema.map_or(&Value::Null, |content| &content["schema"]);
            let wanted = response["type"].as_str().unwrap_or_default();
            let name = wanted.trim_start_matches("array<").trim_end_matches('>');
            let schema = if wanted.starts_with("array<") { &schema["items"] } else { schema };
            if theirs["schemas"].get(name).is_some() {
                schemas.insert(name.to_owned(), resolve(&ours, schema).clone());
            }
        }
        if let Some(name) = operation["body"]["schema"].as_str() {
            let schema = &our["requestBody"]["content"]["application/json"]["schema"];
            schemas.insert(name.to_owned(), not_null(&ours, schema).clone());
        }
    }
    for (name, our) in &schemas {
        compare_schema(&ours, name, &theirs["schemas"][name], our, &mut found);
    }
    found.sort();
    found.dedup();
    found
}

#[test]
fn ours_is_upstream_s_api_but_for_what_differs_on_purpose() {
    let differences = differences();
    let is_meant = |place: &str, difference: &str| difference.starts_with(&format!("{place}:"));
    let surprising: Vec<&String> = differences
        .iter()
        .filter(|difference| !DIFFERENCES.iter().any(|(place, _)| is_meant(place, difference)))
        .collect();
    assert!(surprising.is_empty(), "{surprising:#?}");
    let gone = DIFFERENCES
        .iter()
        .filter(|(place, _)| !differences.iter().any(|difference| is_meant(place, difference)))
        .collect::<Vec<_>>();
    assert!(gone.is_empty(), "these are no differences any more: {gone:#?}");
}
