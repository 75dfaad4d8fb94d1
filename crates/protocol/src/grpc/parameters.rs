//! Parameters of requests, responses and tensors.

use std::collections::BTreeMap;
use std::time::Duration;

use inferring_types::ServiceError;

use super::inference::InferParameter;
use super::inference::infer_parameter::ParameterChoice;

/// Parameters by name.
pub(super) type Parameters = BTreeMap<String, InferParameter>;

/// A parameter that is true or false; `None` where it is absent.
pub(super) fn boolean(parameters: &Parameters, name: &str) -> Result<Option<bool>, ServiceError> {
    match choice(parameters, name) {
        None => Ok(None),
        Some(ParameterChoice::BoolParam(value)) => Ok(Some(*value)),
        Some(_) => Err(mistyped(name, "true or false, as `bool_param`")),
    }
}

/// A parameter that is a time in microseconds; `None` where it is absent or 0.
pub(super) fn microseconds(
    parameters: &Parameters,
    name: &str,
) -> Result<Option<Duration>, ServiceError> {
    let value = match choice(parameters, name) {
        None => return Ok(None),
        Some(ParameterChoice::Int64Param(value)) => u64::try_from(*value).ok(),
        Some(ParameterChoice::Uint64Param(value)) => Some(*value),
        Some(_) => None,
    };
    let value = value.ok_or_else(|| mistyped(name, "microseconds, as `int64_param`"))?;
    Ok((value > 0).then(|| Duration::from_micros(value)))
}

/// Whether a parameter is there and says more than nothing: 0, false or an empty text.
pub(super) fn is_given(parameters: &Parameters, name: &str) -> bool {
    match choice(parameters, name) {
        None => false,
        Some(ParameterChoice::BoolParam(value)) => *value,
        Some(ParameterChoice::Int64Param(value)) => *value != 0,
        Some(ParameterChoice::Uint64Param(value)) => *value != 0,
        Some(ParameterChoice::DoubleParam(value)) => *value != 0.0,
        Some(ParameterChoice::StringParam(value)) => !value.is_empty(),
    }
}

pub(super) fn text(value: &str) -> InferParameter {
    InferParameter { parameter_choice: Some(ParameterChoice::StringParam(value.to_owned())) }
}

pub(super) fn truth(value: bool) -> InferParameter {
    InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(value)) }
}

pub(super) fn integer(value: impl TryInto<i64>) -> InferParameter {
    let value = value.try_into().unwrap_or(i64::MAX);
    InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(value)) }
}

fn choice<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a ParameterChoice> {
    parameters.get(name)?.parameter_choice.as_ref()
}

fn mistyped(name: &str, expected: &str) -> ServiceError {
    ServiceError::invalid(format!("parameter `{name}`: expected {expected}"))
}
