//! Data forms: questions, answers and tables of results (XEP-0004; types by XEP-0068).

use super::child_text;
use crate::ns;
use crate::xml::Element;
use std::fmt;

const FORM_TYPE: &str = "FORM_TYPE";

/// `<x xmlns='jabber:x:data'/>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    /// Question, answer, refusal or facts.
    pub ty: FormKind,
    /// For people.
    pub title: Option<String>,
    /// For people, line by line.
    pub instructions: Vec<String>,
    /// The fields.
    pub fields: Vec<Field>,
    /// The columns of a table (section 3.4).
    pub reported: Vec<Field>,
    /// The rows of a table.
    pub items: Vec<Vec<Field>>,
}

/// What a form is for (section 3.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FormKind {
    /// To be filled in.
    Form,
    /// Filled in.
    Submit,
    /// Not going to be filled in.
    Cancel,
    /// Facts or search results.
    Result,
}

/// A field of a form.
#[derive(Clone, Default, PartialEq)]
pub struct Field {
    /// Its name; only fixed texts have none.
    pub var: Option<String>,
    /// What may stand in it; `None`: not said, which means one line of text.
    pub ty: Option<FieldType>,
    /// For people.
    pub label: Option<String>,
    /// A longer text for people.
    pub desc: Option<String>,
    /// It must be filled in.
    pub required: bool,
    /// What stands in it.
    pub values: Vec<String>,
    /// What to choose from.
    pub choices: Vec<Choice>,
    /// Anything else in it, such as media (XEP-0221) and ranges (XEP-0122).
    pub extra: Vec<Element>,
}

/// One of several values to choose from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Choice {
    /// For people.
    pub label: Option<String>,
    /// The value.
    pub value: String,
}

/// What may stand in a field (section 3.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(missing_docs, reason = "each is its own name on the wire")]
pub enum FieldType {
    Boolean,
    Fixed,
    Hidden,
    JidMulti,
    JidSingle,
    ListMulti,
    ListSingle,
    TextMulti,
    TextPrivate,
    TextSingle,
}

const FIELD_TYPES: &[(FieldType, &str)] = &[
    (FieldType::Boolean, "boolean"),
    (FieldType::Fixed, "fixed"),
    (FieldType::Hidden, "hidden"),
    (FieldType::JidMulti, "jid-multi"),
    (FieldType::JidSingle, "jid-single"),
    (FieldType::ListMulti, "list-multi"),
    (FieldType::ListSingle, "list-single"),
    (FieldType::TextMulti, "text-multi"),
    (FieldType::TextPrivate, "text-private"),
    (FieldType::TextSingle, "text-single"),
];

const FORM_KINDS: &[(FormKind, &str)] = &[
    (FormKind::Form, "form"),
    (FormKind::Submit, "submit"),
    (FormKind::Cancel, "cancel"),
    (FormKind::Result, "result"),
];

fn find<T: Copy>(table: &[(T, &str)], text: &str) -> Option<T> {
    table
        .iter()
        .find(|(_, name)| *name == text)
        .map(|(ty, _)| *ty)
}

fn name<T: PartialEq>(table: &[(T, &'static str)], ty: &T) -> &'static str {
    table
        .iter()
        .find(|(other, _)| other == ty)
        .map_or("", |(_, name)| *name)
}

impl Form {
    /// An empty form.
    #[must_use]
    pub fn new(ty: FormKind) -> Self {
        Self {
            ty,
            title: None,
            instructions: Vec::new(),
            fields: Vec::new(),
            reported: Vec::new(),
            items: Vec::new(),
        }
    }

    /// A form of this type that is filled in.
    #[must_use]
    pub fn submit(form_type: &str) -> Self {
        Self {
            fields: vec![Field::hidden(FORM_TYPE, form_type)],
            ..Self::new(FormKind::Submit)
        }
    }

    /// Facts of this type.
    #[must_use]
    pub fn result(form_type: &str) -> Self {
        Self {
            fields: vec![Field::hidden(FORM_TYPE, form_type)],
            ..Self::new(FormKind::Result)
        }
    }

    /// The answer to this form as it was given out: every field with the value that it came with
    /// (section 3.2: hidden ones too), fixed texts left out. To be filled in with `set`.
    #[must_use]
    pub fn answer(&self) -> Self {
        let is_answered =
            |field: &&Field| field.var.is_some() && field.ty != Some(FieldType::Fixed);
        let answered = self.fields.iter().filter(is_answered).map(|field| Field {
            var: field.var.clone(),
            ty: field.ty,
            values: field.values.clone(),
            ..Field::default()
        });
        Self {
            fields: answered.collect(),
            ..Self::new(FormKind::Submit)
        }
    }

    /// Of which type it is (XEP-0068): what `FORM_TYPE` says.
    #[must_use]
    pub fn form_type(&self) -> Option<&str> {
        self.value(FORM_TYPE)
    }

    /// The field of this name.
    #[must_use]
    pub fn field(&self, var: &str) -> Option<&Field> {
        self.fields
            .iter()
            .find(|field| field.var.as_deref() == Some(var))
    }

    /// The first value of a field.
    #[must_use]
    pub fn value(&self, var: &str) -> Option<&str> {
        self.field(var)?.value()
    }

    /// The values of a field; none when there is no such field.
    #[must_use]
    pub fn values(&self, var: &str) -> &[String] {
        self.field(var).map_or(&[], |field| &field.values)
    }

    /// What a boolean field says; `None` when it says neither.
    #[must_use]
    pub fn is_set(&self, var: &str) -> Option<bool> {
        match self.value(var)?.trim() {
            "1" | "true" => Some(true),
            "0" | "false" => Some(false),
            _ => None,
        }
    }

    /// Fills in a field, which is added where there is none.
    pub fn set(&mut self, var: &str, value: &str) {
        self.set_values(var, [value]);
    }

    /// Fills in a field with several values.
    pub fn set_values<'a>(&mut self, var: &str, values: impl IntoIterator<Item = &'a str>) {
        let values = values.into_iter().map(Into::into).collect();
        let mut fields = self.fields.iter_mut();
        match fields.find(|field| field.var.as_deref() == Some(var)) {
            Some(field) => field.values = values,
            None => self.fields.push(Field {
                var: Some(var.into()),
                values,
                ..Field::default()
            }),
        }
    }

    /// Builder: `set`.
    #[must_use]
    pub fn with(mut self, var: &str, value: &str) -> Self {
        self.set(var, value);
        self
    }

    /// Names of fields that must be filled in and are not.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        let is_missing =
            |field: &&Field| field.required && field.values.iter().all(String::is_empty);
        let missing = self.fields.iter().filter(is_missing);
        missing.filter_map(|field| field.var.as_deref())
    }

    /// Reads a form; `None`: it is another element, or of no kind that there is.
    #[must_use]
    pub fn parse(x: &Element) -> Option<Self> {
        if !x.is(ns::DATA_FORMS, "x") {
            return None;
        }
        let mut form = Self::new(find(FORM_KINDS, x.attr("type")?)?);
        form.title = child_text(x, "title");
        for child in x.children().filter(|child| child.ns() == ns::DATA_FORMS) {
            match child.name() {
                "instructions" => form.instructions.push(child.text()),
                "field" => form.fields.push(Field::parse(child)),
                // Several are an error that means more columns.
                "reported" => form.reported.extend(fields(child)),
                "item" => form.items.push(fields(child).collect()),
                _ => {}
            }
        }
        Some(form)
    }

    /// The first form in an element.
    #[must_use]
    pub fn find(parent: &Element) -> Option<Self> {
        Self::parse(parent.child(ns::DATA_FORMS, "x")?)
    }

    /// Writes the form.
    #[must_use]
    pub fn to_element(&self) -> Element {
        let mut x = element("x").with_attr("type", name(FORM_KINDS, &self.ty));
        if let Some(title) = &self.title {
            x.push(element("title").with_text(title));
        }
        for line in &self.instructions {
            x.push(element("instructions").with_text(line));
        }
        for field in &self.fields {
            x.push(field.to_element());
        }
        let group = |name, fields: &[Field]| {
            let fields = fields.iter().map(Field::to_element);
            fields.fold(element(name), Element::with_child)
        };
        if !self.reported.is_empty() {
            x.push(group("reported", &self.reported));
        }
        for item in &self.items {
            x.push(group("item", item));
        }
        x
    }
}

impl Field {
    /// A field with one value.
    #[must_use]
    pub fn new(var: &str, ty: FieldType, value: &str) -> Self {
        Self {
            var: Some(var.into()),
            ty: Some(ty),
            values: vec![value.into()],
            ..Self::default()
        }
    }

    fn hidden(var: &str, value: &str) -> Self {
        Self::new(var, FieldType::Hidden, value)
    }

    /// The first value.
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        self.values.first().map(String::as_str)
    }

    fn parse(field: &Element) -> Self {
        let mut parsed = Self {
            var: field.attr("var").map(Into::into),
            ty: field.attr("type").and_then(|ty| find(FIELD_TYPES, ty)),
            label: field.attr("label").map(Into::into),
            desc: child_text(field, "desc"),
            ..Self::default()
        };
        for child in field.children() {
            match (child.ns(), child.name()) {
                (ns::DATA_FORMS, "value") => parsed.values.push(child.text()),
                (ns::DATA_FORMS, "required") => parsed.required = true,
                (ns::DATA_FORMS, "option") => parsed.choices.extend(choice(child)),
                (ns::DATA_FORMS, _) => {}
                _ => parsed.extra.push(child.clone()),
            }
        }
        parsed
    }

    fn to_element(&self) -> Element {
        let mut field = element("field");
        if let Some(var) = &self.var {
            field.set_attr("var", var);
        }
        if let Some(ty) = &self.ty {
            field.set_attr("type", name(FIELD_TYPES, ty));
        }
        if let Some(label) = &self.label {
            field.set_attr("label", label);
        }
        if let Some(desc) = &self.desc {
            field.push(element("desc").with_text(desc));
        }
        if self.required {
            field.push(element("required"));
        }
        for value in &self.values {
            field.push(element("value").with_text(value));
        }
        for choice in &self.choices {
            let mut option = element("option");
            if let Some(label) = &choice.label {
                option.set_attr("label", label);
            }
            field.push(option.with_child(element("value").with_text(&choice.value)));
        }
        for extra in &self.extra {
            field.push(extra.clone());
        }
        field
    }
}

/// Values may be passwords: they are not shown, except where the form says what they are.
impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Field");
        shown.field("var", &self.var).field("ty", &self.ty);
        match self.ty {
            None | Some(FieldType::TextPrivate) => shown.field("values", &self.values.len()),
            Some(_) => shown.field("values", &self.values),
        };
        shown.finish_non_exhaustive()
    }
}

fn element(name: &str) -> Element {
    Element::new(ns::DATA_FORMS, name)
}

fn fields(group: &Element) -> impl Iterator<Item = Field> {
    let fields = group
        .children()
        .filter(|field| field.is(ns::DATA_FORMS, "field"));
    fields.map(Field::parse)
}

fn choice(option: &Element) -> Option<Choice> {
    Some(Choice {
        label: option.attr("label").map(Into::into),
        value: child_text(option, "value")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn x(ty: &str, content: &str) -> Element {
        let xml = format!("<x xmlns='jabber:x:data' type='{ty}'>{content}</x>");
        Element::parse(xml.as_bytes(), "").unwrap()
    }

    fn form() -> Element {
        x(
            "form",
            "<title>T</title><instructions>I</instructions>\
             <field var='FORM_TYPE' type='hidden'><value>urn:x</value></field>\
             <field type='fixed'><value>Read this</value></field>\
             <field var='color' type='list-multi' label='Colour'><desc>D</desc><required/>\
             <value>red</value><value>blue</value>\
             <option label='Red'><value>red</value></option><option><value>blue</value></option>\
             </field><field var='name' type='text-single'><required/></field>\
             <field var='on' type='boolean'><value>1</value></field>\
             <field var='pic'><media xmlns='urn:xmpp:media-element'/></field>",
        )
    }

    #[test]
    fn forms_are_read_and_written() {
        let parsed = Form::parse(&form()).unwrap();
        assert_eq!(parsed.form_type(), Some("urn:x"));
        assert_eq!(parsed.values("color"), ["red", "blue"]);
        assert_eq!(parsed.is_set("on"), Some(true));
        assert_eq!(parsed.is_set("color"), None);
        assert_eq!(parsed.missing().collect::<Vec<_>>(), ["name"]);
        assert_eq!(parsed.field("color").unwrap().choices.len(), 2);
        assert_eq!(parsed.to_element(), form());
        let wrapped = Element::new("urn:x", "q").with_child(form());
        assert_eq!(Form::find(&wrapped), Some(parsed));
    }

    #[test]
    fn an_answer_has_every_field_but_fixed_ones() {
        let mut answer = Form::parse(&form()).unwrap().answer();
        answer.set("name", "Ann");
        answer.set_values("color", ["blue"]);
        let answer = answer.with("more", "x");
        let expected = x(
            "submit",
            "<field var='FORM_TYPE' type='hidden'><value>urn:x</value></field>\
             <field var='color' type='list-multi'><value>blue</value></field>\
             <field var='name' type='text-single'><value>Ann</value></field>\
             <field var='on' type='boolean'><value>1</value></field>\
             <field var='pic'/><field var='more'><value>x</value></field>",
        );
        assert_eq!(answer.to_element(), expected);
        let submit = Form::submit("urn:x").with("a", "1").to_element();
        assert_eq!(Form::parse(&submit).unwrap().value("a"), Some("1"));
        assert_eq!(Form::result("urn:x").ty, FormKind::Result);
    }

    #[test]
    fn tables_are_read_and_written() {
        let table = x(
            "result",
            "<reported><field var='jid' type='jid-single' label='JID'/></reported>\
             <item><field var='jid'><value>a@b</value></field></item>\
             <item><field var='jid'><value>c@d</value></field></item>",
        );
        let parsed = Form::parse(&table).unwrap();
        assert_eq!((parsed.reported.len(), parsed.items.len()), (1, 2));
        assert_eq!(parsed.to_element(), table);
    }

    #[test]
    fn what_is_odd_is_passed_over_or_no_form() {
        for other in [
            Element::new(ns::DATA_FORMS, "x"),
            x("odd", ""),
            Element::new("urn:x", "x").with_attr("type", "form"),
        ] {
            assert!(Form::parse(&other).is_none());
        }
        let odd = "<field type='odd' var='a'><option/></field><field/><y xmlns='urn:y'/>";
        let form = Form::parse(&x("form", odd)).unwrap();
        assert_eq!(form.field("a").unwrap().ty, None);
        assert_eq!(form.fields.len(), 2);
        assert_eq!(form.value("a"), None);
    }

    #[test]
    fn passwords_are_not_shown() {
        let private = Field::new("password", FieldType::TextPrivate, "secret");
        let form = Form {
            fields: vec![private],
            ..Form::new(FormKind::Submit)
        };
        let plain = Form::submit("urn:x").with("password", "secret");
        for form in [form, plain] {
            assert!(!format!("{form:?}").contains("secret"));
        }
    }
}
