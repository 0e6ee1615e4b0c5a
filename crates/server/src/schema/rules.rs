//! CEL rules of a schema (`x-kubernetes-validations`).
//!
//! Compiled once, at start. `self` is the value the rule stands on; `oldSelf` its former self: rules
//! that name it judge changes and are not evaluated where there was none, unless `optionalOldSelf`
//! makes it an optional. Items of a list have former selves only when the list is a map.
//!
//! The rules are ours, the values are the user's: a rule may hold at most one loop within another,
//! and before rules are evaluated their cost is bounded from their size and that of the members
//! they read, which alone are handed to them; where it is more than [`BUDGET`] for one object, the
//! object is refused.
//!
//! Source: "Validation rules" in Kubernetes's documentation of custom resources.

use super::at::join;
use super::{Former, MOST, Schema, Type, brief};
use boatyard_api::rules::{FieldError, Reason};
use cel::common::ast::{EntryExpr, Expr};
use cel::objects::{Key, Map, OptionalValue};
use cel::{Context, Env, Program};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

/// Steps that the rules of one object may take: some tenth of a second.
const BUDGET: usize = 2_000_000;

/// Loops within loops that a rule may have.
const DEEPEST: u32 = 2;

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut environment = Env::stdlib();
    // Declared on an environment that has neither: they cannot clash.
    drop(environment.add_extension(cel::extensions::strings));
    drop(environment.add_extension(cel::extensions::lists));
    super::patterns::extend(&mut environment);
    Arc::new(environment)
});

/// One rule.
#[derive(Debug)]
pub(super) struct Rule {
    text: String,
    program: Program,
    message: Option<String>,
    explained: Option<Program>,
    reason: Reason,
    /// Appended to the path.
    field: String,
    old: Old,
    /// Nodes of the programs, and how deep their loops lie.
    size: usize,
    loops: u32,
    /// Members of the value that it reads; none when it reads the whole.
    reads: Option<BTreeSet<String>>,
}

/// What a rule wants of the former self.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Old {
    Unused,
    Demanded,
    Optional,
}

impl Rule {
    /// Compiles one; `correlated` says whether the value it stands on can have a former self.
    pub(super) fn compile(json: &Value, correlated: bool) -> Result<Self, String> {
        let text = |member: &str| json[member].as_str().map(str::to_owned);
        let parse = |source: &str| {
            let program = ENVIRONMENT.compile(source);
            program.map_err(|error| format!("the rule {source:?} is no CEL: {error}"))
        };
        let rule = text("rule").ok_or("a rule has no text")?;
        let program = parse(&rule)?;
        let explained = text("messageExpression").map(|source| parse(&source));
        let explained = explained.transpose()?;
        let programs = || std::iter::once(&program).chain(&explained);
        let names_old = programs().any(|program| program.references().has_variable("oldSelf"));
        let old = match (names_old, json["optionalOldSelf"] == true) {
            (false, _) => Old::Unused,
            (true, true) => Old::Optional,
            (true, false) => Old::Demanded,
        };
        if names_old && !correlated {
            return Err(format!(
                "the rule {rule:?} names oldSelf where a value has no former self"
            ));
        }
        let mut weight = Weight::default();
        programs().for_each(|program| weight.add(&program.expression().expr, 0));
        let Weight {
            nodes: size,
            loops,
            whole,
            members,
        } = weight;
        if loops > DEEPEST {
            return Err(format!("the rule {rule:?} has loops in loops in loops"));
        }
        let reason = match json["reason"].as_str() {
            None | Some("FieldValueInvalid") => Reason::Invalid,
            Some("FieldValueForbidden") => Reason::Forbidden,
            Some("FieldValueRequired") => Reason::Required,
            Some("FieldValueDuplicate") => Reason::Duplicate,
            Some(other) => return Err(format!("{other} is no reason of a rule")),
        };
        Ok(Self {
            program,
            message: text("message"),
            explained,
            reason,
            field: text("fieldPath").unwrap_or_default(),
            old,
            size,
            loops,
            reads: (!whole).then_some(members),
            text: rule,
        })
    }

    /// Most steps it takes on values of this many parts.
    fn cost(&self, parts: usize) -> usize {
        // Each step may compare or search whole values once.
        self.size
            .saturating_mul(parts.saturating_pow(self.loops + 1))
    }

    fn holds(&self, context: &Context<'_, '_>) -> Result<(), String> {
        match self.program.execute(context) {
            Ok(cel::Value::Bool(true)) => return Ok(()),
            Ok(cel::Value::Bool(false)) => {}
            Ok(_) => return Err(format!("the rule {} is neither true nor false", self.text)),
            Err(error) => return Err(format!("the rule {} fails: {error}", self.text)),
        }
        let said = |program: &Program| match program.execute(context) {
            Ok(cel::Value::String(text)) => Some(text.trim().to_owned()),
            _ => None,
        };
        let explained = self.explained.as_ref().and_then(said);
        let explained = explained.filter(|text| !text.is_empty() && !text.contains('\n'));
        Err(explained
            .or_else(|| self.message.clone())
            .unwrap_or_else(|| format!("failed rule: {}", self.text)))
    }
}

/// What there is to an expression.
#[derive(Default)]
struct Weight {
    nodes: usize,
    /// How deep its loops lie.
    loops: u32,
    /// Whether it reads a value as a whole.
    whole: bool,
    /// Members of values that it reads.
    members: BTreeSet<String>,
}

impl Weight {
    /// Adds an expression that lies in so many loops.
    fn add(&mut self, expression: &Expr, loops: u32) {
        self.nodes += 1;
        self.loops = self.loops.max(loops);
        match expression {
            Expr::Ident(name) => self.whole |= is_value(name),
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(name) if is_value(name) => {
                    self.members.insert(select.field.clone());
                }
                operand => self.add(operand, loops),
            },
            Expr::Call(call) => {
                let target = call.target.iter().map(|target| &target.expr);
                let arguments = call.args.iter().map(|one| &one.expr);
                target.chain(arguments).for_each(|one| self.add(one, loops));
            }
            Expr::Comprehension(comprehension) => {
                for once in [
                    &comprehension.iter_range,
                    &comprehension.accu_init,
                    &comprehension.result,
                ] {
                    self.add(&once.expr, loops);
                }
                for again in [&comprehension.loop_cond, &comprehension.loop_step] {
                    self.add(&again.expr, loops + 1);
                }
            }
            Expr::List(list) => list
                .elements
                .iter()
                .for_each(|one| self.add(&one.expr, loops)),
            Expr::Map(map) => {
                for entry in &map.entries {
                    match &entry.expr {
                        EntryExpr::MapEntry(entry) => {
                            self.add(&entry.key.expr, loops);
                            self.add(&entry.value.expr, loops);
                        }
                        EntryExpr::StructField(field) => self.add(&field.value.expr, loops),
                    }
                }
            }
            // Rules make no messages.
            Expr::Struct(_) | Expr::Unspecified | Expr::Literal(_) => {}
        }
    }
}

fn is_value(name: &str) -> bool {
    name == "self" || name == "oldSelf"
}

/// Rules of one object under evaluation.
struct Evaluation {
    errors: Vec<FieldError>,
    left: usize,
}

impl Schema {
    /// Evaluates the rules on a whole object; what is wrong with it, or with its change from `old`.
    pub(crate) fn judge_rules(&self, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut evaluation = Evaluation {
            errors: Vec::new(),
            left: BUDGET,
        };
        self.evaluate(value, old, "", &mut evaluation);
        evaluation.errors.truncate(MOST);
        evaluation.errors
    }

    fn evaluate(
        &self,
        value: &Value,
        old: Option<&Value>,
        path: &str,
        evaluation: &mut Evaluation,
    ) {
        if !self.ruled || value.is_null() || evaluation.errors.len() >= MOST {
            return;
        }
        let old = old.filter(|old| !old.is_null());
        if !self.rules.is_empty() {
            self.evaluate_here(value, old, path, evaluation);
        }
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    let below = self.properties.get(name).or(self.additional.as_deref());
                    if let Some(below) = below.filter(|below| below.ruled) {
                        let old = old.and_then(|old| old.get(name));
                        below.evaluate(member, old, &join(path, name), evaluation);
                    }
                }
            }
            Value::Array(items) => {
                let Some(below) = self.items.as_ref().filter(|below| below.ruled) else {
                    return;
                };
                let former = Former::of(&self.list, old);
                for (number, item) in items.iter().enumerate() {
                    let old = former.at(item);
                    below.evaluate(item, old, &format!("{path}[{number}]"), evaluation);
                }
            }
            _ => {}
        }
    }

    fn evaluate_here(
        &self,
        value: &Value,
        old: Option<&Value>,
        path: &str,
        evaluation: &mut Evaluation,
    ) {
        // What is unchanged was judged when it was written; changes are none.
        let changed = old != Some(value);
        let due = |rule: &&Rule| match rule.old {
            Old::Unused => changed,
            Old::Demanded => old.is_some(),
            Old::Optional => true,
        };
        let due: Vec<&Rule> = self.rules.iter().filter(due).collect();
        if due.is_empty() {
            return;
        }
        // Only what the rules read is handed to them.
        let mut read = Some(BTreeSet::new());
        for rule in &due {
            read = match (read, &rule.reads) {
                (Some(read), Some(more)) => Some(&read | more),
                _ => None,
            };
        }
        let read = read.as_ref();
        let parts = 1 + self.parts(value, read) + old.map_or(0, |old| self.parts(old, read));
        let cost = due.iter().map(|rule| rule.cost(parts));
        let cost = cost.fold(parts, usize::saturating_add);
        if cost > evaluation.left {
            evaluation.left = 0;
            let detail = "too large for its rules to be checked; make it smaller";
            let error = FieldError::invalid(path, brief(value), detail);
            evaluation.errors.push(error);
            return;
        }
        evaluation.left -= cost;
        let mut context = Context::with_env(ENVIRONMENT.clone());
        context.add_variable_from_value("self", self.value(value, read));
        let old = old.map(|old| self.value(old, read));
        let optional = due.iter().any(|rule| rule.old == Old::Optional).then(|| {
            let old = old
                .clone()
                .map_or_else(OptionalValue::none, OptionalValue::of);
            let mut optional = Context::with_env(ENVIRONMENT.clone());
            optional.add_variable_from_value("self", self.value(value, read));
            optional.add_variable_from_value("oldSelf", cel::Value::Opaque(Arc::new(old)));
            optional
        });
        if let Some(old) = old {
            context.add_variable_from_value("oldSelf", old);
        }
        for rule in due {
            let context = match &optional {
                Some(optional) if rule.old == Old::Optional => optional,
                _ => &context,
            };
            if let Err(why) = rule.holds(context) {
                let path = format!("{path}{}", rule.field);
                let path = path.trim_start_matches('.');
                let error = FieldError::because(path, rule.reason, brief(value), why);
                evaluation.errors.push(error);
            }
        }
    }

    /// How much there is to look at in the members of a value that are read.
    fn parts(&self, value: &Value, read: Option<&BTreeSet<String>>) -> usize {
        match (value, read) {
            (Value::Object(members), Some(read)) => members
                .iter()
                .filter(|(name, _)| read.contains(&self.identifier(name)))
                .map(|(_, member)| parts(member))
                .sum(),
            _ => parts(value),
        }
    }

    /// A member's name as rules write it.
    fn identifier(&self, name: &str) -> String {
        if self.properties.contains_key(name) {
            identifier(name)
        } else {
            name.to_owned()
        }
    }

    /// A value as CEL has it, of an object the members that are read.
    fn value(&self, value: &Value, read: Option<&BTreeSet<String>>) -> cel::Value {
        match value {
            Value::Null => cel::Value::Null,
            Value::Bool(value) => cel::Value::Bool(*value),
            Value::Number(number) => match (self.kind, number.as_i64(), number.as_u64()) {
                (Some(Type::Number), ..) => cel::Value::Float(number.as_f64().unwrap_or(f64::NAN)),
                (_, Some(number), _) => cel::Value::Int(number),
                (_, None, Some(number)) => cel::Value::UInt(number),
                (_, None, None) => cel::Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => cel::Value::String(Arc::new(text.clone())),
            Value::Array(items) => {
                let unknown = Self::default();
                let below = self.items.as_deref().unwrap_or(&unknown);
                let items = items.iter().map(|item| below.value(item, None));
                cel::Value::List(Arc::new(items.collect()))
            }
            Value::Object(members) => {
                let unknown = Self::default();
                let members = members.iter().filter_map(|(name, member)| {
                    let below = self.properties.get(name).or(self.additional.as_deref());
                    let name = self.identifier(name);
                    let wanted = read.is_none_or(|read| read.contains(&name));
                    wanted.then(|| {
                        let below = below.unwrap_or(&unknown);
                        (Key::from(name), below.value(member, None))
                    })
                });
                let map = Arc::new(members.collect());
                cel::Value::Map(Map { map })
            }
        }
    }
}

/// Words of CEL's that cannot name fields.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// A field's name as rules write it.
fn identifier(name: &str) -> String {
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    if !name.contains(['_', '.', '-', '/']) {
        return name.to_owned();
    }
    name.replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__")
}

/// How much there is to look at in a value.
fn parts(value: &Value) -> usize {
    match value {
        Value::String(text) => 1 + text.len() / 64,
        Value::Array(items) => 1 + items.iter().map(parts).sum::<usize>(),
        Value::Object(members) => {
            let members = members.iter();
            1 + members
                .map(|(name, value)| name.len() / 64 + parts(value))
                .sum::<usize>()
        }
        _ => 1,
    }
}
