//! A page that shows the OpenAPI document: plain HTML, without scripts, and nothing is fetched.

use std::fmt::Write;

use serde_json::Value;

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}\
    h2{border-bottom:1px solid #ccc;margin-top:2em}code,.method{font-family:monospace}\
    .method{font-weight:bold}table{border-collapse:collapse;margin:.5em 0}\
    td,th{border:1px solid #ddd;padding:.2em .6em;text-align:left;vertical-align:top}";

/// Where the schemas of a document are.
const SCHEMAS: &str = "#/components/schemas/";

/// Returns the page of a document.
pub(crate) fn page(document: &Value) -> String {
    let title = text(&document["info"]["title"]);
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title} API</title>\
         <style>{STYLE}</style><h1>{title} API {}</h1><p>{}</p>\
         <p>For programs: <a href=\"spec.json\">spec.json</a>, <a href=\"spec.yaml\">spec.yaml</a>.</p>",
        text(&document["info"]["version"]),
        text(&document["info"]["description"]),
    );
    for (path, operations) in entries(&document["paths"]) {
        for (method, operation) in entries(operations) {
            show_operation(&mut page, method, path, operation);
        }
    }
    page.push_str("<h1>Documents</h1>");
    for (name, schema) in entries(&document["components"]["schemas"]) {
        let name = escape(name);
        add(&mut page, format_args!("<h2 id=\"{name}\">{name}</h2>"));
        show_schema(&mut page, schema);
    }
    page
}

fn show_operation(page: &mut String, method: &str, path: &str, operation: &Value) {
    let scope = operation["security"][0].as_object().and_then(|schemes| schemes.values().next());
    let scope = scope.map(|scopes| text(&scopes[0])).filter(|scope| !scope.is_empty());
    add(
        page,
        format_args!(
            "<h2><span class=\"method\">{}</span> <code>{}</code></h2><p>{} {}</p>",
            escape(&method.to_uppercase()),
            escape(path),
            text(&operation["summary"]),
            text(&operation["description"]),
        ),
    );
    if let Some(scope) = scope {
        add(page, format_args!("<p>Scope: <code>{scope}</code></p>"));
    }
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !parameters.is_empty() {
        page.push_str("<table><tr><th>parameter<th>in<th>type<th>");
        for parameter in parameters {
            row(page, &parameter["name"], &parameter["in"], &parameter["schema"], &parameter["description"]);
        }
        page.push_str("</table>");
    }
    let body = content(&operation["requestBody"]);
    if !body.is_null() {
        add(page, format_args!("<p>Body: {}</p>", kind(body)));
    }
    for (status, response) in entries(&operation["responses"]) {
        add(page, format_args!("<p>{}: {}</p>", escape(status), kind(content(response))));
    }
}

fn show_schema(page: &mut String, schema: &Value) {
    add(page, format_args!("<p>{}</p>", text(&schema["description"])));
    let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    let fields: Vec<_> = entries(&schema["properties"]).collect();
    if fields.is_empty() {
        add(page, format_args!("<p>{}</p>", kind(schema)));
        return;
    }
    page.push_str("<table><tr><th>field<th><th>type<th>");
    for (name, field) in fields {
        let is_required = required.iter().any(|required| required == name);
        let is_required = if is_required { "required" } else { "" };
        row(page, &name.into(), &is_required.into(), field, &field["description"]);
    }
    page.push_str("</table>");
}

fn row(page: &mut String, name: &Value, note: &Value, schema: &Value, description: &Value) {
    add(
        page,
        format_args!(
            "<tr><td><code>{}</code><td>{}<td>{}<td>{}",
            text(name),
            text(note),
            kind(schema),
            text(description)
        ),
    );
}

/// The schema of a body.
fn content(body: &Value) -> &Value {
    let content = body["content"].as_object().and_then(|types| types.values().next());
    content.map_or(&Value::Null, |content| &content["schema"])
}

/// The type of a schema, in words.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix(SCHEMAS)) {
        let name = escape(name);
        return format!("<a href=\"#{name}\">{name}</a>");
    }
    if let Some(one_of) = schema["oneOf"].as_array() {
        return one_of.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    if let Some(words) = schema["enum"].as_array() {
        return words
            .iter()
            .map(|word| format!("<code>{}</code>", text(word)))
            .collect::<Vec<_>>()
            .join(", ");
    }
    match &schema["type"] {
        Value::String(name) if name == "array" => format!("list of {}", kind(&schema["items"])),
        Value::String(name) => escape(name),
        Value::Array(names) => names.iter().map(text).collect::<Vec<_>>().join(" or "),
        _ => String::new(),
    }
}

fn entries(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    object.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

fn text(value: &Value) -> String {
    escape(value.as_str().unwrap_or_default())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn add(page: &mut String, what: std::fmt::Arguments<'_>) {
    let _ = page.write_fmt(what); // a string takes all
}
