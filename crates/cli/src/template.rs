//! Go templates, as docker's `--format '{{.Names}}'` takes them: what scripts have is to work here
//! too.

use std::collections::HashMap;

use anyhow::{Result, anyhow};
use gtmpl::{Context, FuncError, Template, Value};
use serde_json::Value as Json;

/// A template that was understood.
pub(crate) struct Form {
    template: Template,
    /// Whether docker would print a head over it (`table {{...}}`).
    is_table: bool,
}

impl Form {
    /// Reads a template.
    pub(crate) fn parse(text: &str) -> Result<Form> {
        let (is_table, text) = match text.strip_prefix("table ") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut template = Template::default();
        template.add_func("json", json);
        template.add_func("join", join);
        template.add_func("lower", |values| text_of(values).map(|text| text.to_lowercase().into()));
        template.add_func("upper", |values| text_of(values).map(|text| text.to_uppercase().into()));
        template.add_func("println", |values| text_of(values).map(|text| format!("{text}\n").into()));
        template.add_func("title", |values| text_of(values).map(|text| title(&text).into()));
        template.add_func("split", split);
        template.add_func("truncate", truncate);
        // As docker reads it on a command line: a backslash and a letter are what they are in Go.
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        template.parse(text).map_err(|error| {
            anyhow!("invalid --format: {error}; it is a Go template like '{{{{.Names}}}}'")
        })?;
        Ok(Form { template, is_table })
    }

    /// Shows a document by the template.
    pub(crate) fn show(&self, document: &Json) -> Result<String> {
        let shown = self.template.render(&Context::from(value(document)));
        shown.map_err(|error| {
            let keys =
                document.as_object().map(|object| object.keys().cloned().collect::<Vec<_>>().join(", "));
            anyhow!("invalid --format: {error}; there are {}", keys.unwrap_or_default())
        })
    }

    /// The head of a table, if it is one: each field's name.
    pub(crate) fn head(&self, document: &Json) -> Option<Result<String>> {
        let names = document.as_object()?.keys().map(|key| (key.clone(), Json::from(key.to_uppercase())));
        self.is_table.then(|| self.show(&Json::Object(names.collect())))
    }
}

/// A document with each of its fields also by the name that docker has for such: `state_reason` as
/// `StateReason`, `id` as `ID`.
pub(crate) fn with_docker_names(document: &Json) -> Json {
    let Some(object) = document.as_object() else { return document.clone() };
    let mut named = object.clone();
    for (key, value) in object {
        named.insert(camel(key), with_docker_names(value));
        if key == "id" {
            named.insert("ID".to_owned(), value.clone());
        }
    }
    Json::Object(named)
}

fn camel(key: &str) -> String {
    let capital = |part: &str| {
        let mut characters = part.chars();
        characters.next().map(|first| first.to_uppercase().chain(characters).collect::<String>())
    };
    key.split('_').filter_map(capital).collect()
}

fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), ..) => Value::from(number),
            (_, Some(number), _) => Value::from(number),
            (.., number) => Value::from(number.unwrap_or_default()),
        },
        Json::String(text) => Value::String(text.clone()),
        Json::Array(values) => Value::Array(values.iter().map(value).collect()),
        Json::Object(fields) => Value::Object(
            fields.iter().map(|(key, field)| (key.clone(), value(field))).collect::<HashMap<_, _>>(),
        ),
    }
}

fn back(value: &Value) -> Json {
    match value {
        Value::Bool(truth) => Json::Bool(*truth),
        Value::String(text) => Json::String(text.clone()),
        Value::Array(values) => values.iter().map(back).collect(),
        // A field under a name of docker's stands under its own too.
        Value::Object(fields) | Value::Map(fields) => {
            let is_own =
                |key: &String| !key.starts_with(char::is_uppercase) || !fields.contains_key(&snake(key));
            Json::Object(
                fields
                    .iter()
                    .filter(|(key, _)| is_own(key))
                    .map(|(key, field)| (key.clone(), back(field)))
                    .collect(),
            )
        }
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), ..) => number.into(),
            (_, Some(number), _) => number.into(),
            (.., number) => number.unwrap_or_default().into(),
        },
        Value::NoValue | Value::Nil | Value::Function(_) => Json::Null,
    }
}

fn snake(key: &str) -> String {
    if key == "ID" {
        return "id".to_owned();
    }
    let mut text = String::new();
    for character in key.chars() {
        if character.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(character.to_lowercase());
    }
    text
}

fn json(values: &[Value]) -> Result<Value, FuncError> {
    let value = values.first().ok_or_else(|| FuncError::ExactlyXArgs("json".to_owned(), 1))?;
    Ok(back(value).to_string().into())
}

/// Each word with a capital.
fn title(text: &str) -> String {
    let mut is_first = true;
    let capital = |letter: char| {
        let begins = std::mem::replace(&mut is_first, letter.is_whitespace());
        if begins { letter.to_uppercase().collect() } else { letter.to_string() }
    };
    text.chars().map(capital).collect()
}

fn split(values: &[Value]) -> Result<Value, FuncError> {
    let [Value::String(text), Value::String(between)] = values else {
        return Err(FuncError::ExactlyXArgs("split".to_owned(), 2));
    };
    Ok(Value::Array(text.split(between.as_str()).map(Value::from).collect()))
}

fn truncate(values: &[Value]) -> Result<Value, FuncError> {
    let [Value::String(text), Value::Number(length)] = values else {
        return Err(FuncError::ExactlyXArgs("truncate".to_owned(), 2));
    };
    let length = length.as_u64().and_then(|length| usize::try_from(length).ok()).unwrap_or(usize::MAX);
    Ok(text.chars().take(length).collect::<String>().into())
}

fn join(values: &[Value]) -> Result<Value, FuncError> {
    let [Value::Array(values), Value::String(between)] = values else {
        return Err(FuncError::ExactlyXArgs("join".to_owned(), 2));
    };
    Ok(values.iter().map(ToString::to_string).collect::<Vec<_>>().join(between).into())
}

fn text_of(values: &[Value]) -> Result<String, FuncError> {
    match values {
        [value] => Ok(value.to_string()),
        _ => Err(FuncError::ExactlyXArgs("a function".to_owned(), 1)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(template: &str, document: &Json) -> Result<String, String> {
        let form = Form::parse(template).map_err(|error| error.to_string())?;
        form.show(&with_docker_names(document)).map_err(|error| error.to_string())
    }

    #[test]
    fn templates_as_scripts_have_them() {
        let document =
            json!({"id": "abc", "state": "Running", "exit_code": 3, "ports": ["a", "b"], "run": {"pid": 7}});
        for (template, expected) in [
            ("{{.ID}}", "abc"),
            ("{{.State}}: {{.ExitCode}}", "Running: 3"),
            ("{{.id}}\\t{{.run.pid}}", "abc\t7"),
            ("{{if eq .State \"Running\"}}yes{{else}}no{{end}}", "yes"),
            ("{{range .Ports}}[{{.}}]{{end}}", "[a][b]"),
            ("{{join .Ports \",\"}}", "a,b"),
            ("{{json .Run}}", "{\"pid\":7}"),
            ("{{upper .State}}", "RUNNING"),
            ("{{title \"one two\"}}", "One Two"),
            ("{{index (split .ID \"b\") 1}}", "c"),
            ("{{truncate .State 3}}", "Run"),
        ] {
            assert_eq!(shown(template, &document).as_deref(), Ok(expected), "{template}");
        }
        assert!(shown("{{.Nothing}}", &document).unwrap_err().contains("state"));
        assert!(shown("{{.ID", &document).unwrap_err().contains("Go template"));
        let head = Form::parse("table {{.ID}} {{.State}}").unwrap().head(&with_docker_names(&document));
        assert_eq!(head.unwrap().unwrap(), "ID STATE");
    }
}
