//! XForms as CHT's app forms are (<https://getodk.github.io/xforms-spec/>).
use super::form::{Form, Kind, NOT_ASKED, Question};
use roxmltree::{Document, Node};
use std::collections::HashMap;

pub(super) fn read(text: &str) -> Result<Form, String> {
    let document = Document::parse(text).map_err(|e| format!("not XML: {e}"))?;
    let root = document.root_element();
    let find = |name: &str| root.descendants().find(|node| node.has_tag_name_local(name));
    let model = find("model").ok_or("an XForm has a model")?;
    let instance = model
        .children()
        .find(|node| node.has_tag_name_local("instance"))
        .ok_or("the model has no instance")?;
    let data = instance.children().find(Node::is_element).ok_or("the instance is empty")?;
    let code = data.attribute("id").ok_or("the instance has no id: which form is it?")?;
    let title = find("title").and_then(|node| node.text()).unwrap_or(code);
    let labels = Labels::of(model);
    let types: HashMap<String, String> = model
        .children()
        .filter(|node| node.has_tag_name_local("bind"))
        .filter_map(|bind| {
            Some((
                bind.attribute("nodeset")?.to_string(),
                bind.attribute("type").unwrap_or("string").to_string(),
            ))
        })
        .collect();
    let top = format!("/{}", data.tag_name().name());
    let mut questions = Vec::new();
    for node in root.descendants().filter(|node| CONTROLS.contains(&node.tag_name().name())) {
        let Some(reference) = node.attribute("ref") else { continue };
        let Some(below) = reference.strip_prefix(&format!("{top}/")) else { continue };
        let path: Vec<String> = below.split('/').map(String::from).collect();
        if path.first().is_none_or(|first| NOT_ASKED.contains(&first.as_str())) {
            continue;
        }
        // Notes ask nothing: they are read only.
        let is_note = node.tag_name().name() == "input"
            && model.children().any(|bind| {
                bind.attribute("nodeset") == Some(reference) && bind.attribute("readonly") == Some("true()")
            });
        if is_note {
            continue;
        }
        let choices = || choices(node, root, &labels);
        let kind = match (node.tag_name().name(), types.get(reference).map(String::as_str)) {
            ("select1", _) => Kind::One(choices()),
            ("select", _) => Kind::Several(choices()),
            (_, Some("date")) => Kind::Date,
            (_, Some("dateTime")) => Kind::Instant,
            (_, Some("int" | "decimal")) => Kind::NumberAsText,
            (_, Some("boolean")) => Kind::Flag,
            (_, Some(kind)) if kind.contains("tel") || kind.contains("phone") => Kind::Phone,
            _ => Kind::Text,
        };
        let repeat = node
            .ancestors()
            .find(|above| above.has_tag_name_local("repeat"))
            .and_then(|above| above.attribute("nodeset"));
        let repeat = repeat
            .and_then(|nodeset| nodeset.strip_prefix(&format!("{top}/")))
            .map(|below| below.split('/').count());
        let label = labels.of_node(node).unwrap_or_else(|| {
            crate::translate::values::humanised(path.last().map(String::as_str).unwrap_or_default())
        });
        if !questions.iter().any(|known: &Question| known.path == path) {
            questions.push(Question { path, repeat, label, kind });
        }
    }
    Ok(Form { code: code.into(), title: title.into(), is_app_form: true, questions })
}

const CONTROLS: &[&str] = &["input", "select1", "select"];

trait Local {
    fn has_tag_name_local(&self, name: &str) -> bool;
}

impl Local for Node<'_, '_> {
    /// Whatever namespace prefix the form uses.
    fn has_tag_name_local(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}

/// `jr:itext('id')` to its text, English first.
struct Labels(HashMap<String, String>);

impl Labels {
    fn of(model: Node) -> Self {
        let mut all = HashMap::new();
        let translations: Vec<Node> =
            model.descendants().filter(|node| node.has_tag_name_local("translation")).collect();
        let is_english =
            |node: &&Node| node.attribute("lang").is_some_and(|lang| lang.to_lowercase().starts_with("en"));
        let order = translations
            .iter()
            .filter(is_english)
            .chain(translations.iter().filter(|node| !is_english(node)));
        for translation in order {
            for text in translation.children().filter(|node| node.has_tag_name_local("text")) {
                let value = text
                    .children()
                    .find(|node| node.has_tag_name_local("value") && node.attribute("form").is_none());
                if let (Some(id), Some(value)) = (text.attribute("id"), value) {
                    all.entry(id.to_string()).or_insert_with(|| plain(value));
                }
            }
        }
        Self(all)
    }

    fn of_node(&self, node: Node) -> Option<String> {
        let label = node.children().find(|child| child.has_tag_name_local("label"))?;
        let text = match label.attribute("ref") {
            Some(reference) => self.0.get(reference.split('\'').nth(1)?).cloned()?,
            None => plain(label),
        };
        Some(text).filter(|text| !text.is_empty())
    }
}

/// Text without Markdown's emphasis, one line.
fn plain(node: Node) -> String {
    let text: String =
        node.descendants().filter_map(|node| node.is_text().then(|| node.text()).flatten()).collect();
    text.replace(['*', '#'], "").split_whitespace().collect::<Vec<_>>().join(" ").chars().take(120).collect()
}

fn choices(select: Node, root: Node, labels: &Labels) -> Vec<(String, String)> {
    let value = |item: Node| {
        let own = |name: &str| {
            item.children()
                .find(|node| node.has_tag_name_local(name))
                .map(plain)
                .filter(|text| !text.is_empty())
        };
        own("value").or_else(|| own("name"))
    };
    let own: Vec<(String, String)> = select
        .children()
        .filter(|node| node.has_tag_name_local("item"))
        .filter_map(|item| {
            let code = value(item)?;
            Some((code.clone(), labels.of_node(item).unwrap_or(code)))
        })
        .collect();
    if !own.is_empty() {
        return own;
    }
    // Choices in an instance of their own: `instance('list')/root/item[...]`.
    let nodeset = select
        .children()
        .find(|node| node.has_tag_name_local("itemset"))
        .and_then(|node| node.attribute("nodeset"));
    let Some(list) = nodeset.and_then(|nodeset| nodeset.split('\'').nth(1)) else { return Vec::new() };
    let instance = root
        .descendants()
        .find(|node| node.has_tag_name_local("instance") && node.attribute("id") == Some(list));
    let items = instance
        .into_iter()
        .flat_map(|instance| instance.descendants())
        .filter(|node| node.has_tag_name_local("item"));
    items
        .filter_map(|item| {
            let code = value(item)?;
            let text = |name: &str| item.children().find(|node| node.has_tag_name_local(name)).map(plain);
            let label = text("itextId").and_then(|id| labels.0.get(&id).cloned()).or_else(|| text("label"));
            Some((code.clone(), label.unwrap_or(code)))
        })
        .collect()
}
