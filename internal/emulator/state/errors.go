package state

import (
	"fmt"
	"net/http"
)

// Error is a refusal as Clerk words it: one element of the "errors" of its
// response, and the response's status.
type Error struct {
	Status      int            `json:"-"`
	Code        string         `json:"code"`
	Message     string         `json:"message"`
	LongMessage string         `json:"long_message"`
	Meta        map[string]any `json:"meta,omitempty"`
}

// Error says what was refused, and the code.
func (e *Error) Error() string { return fmt.Sprintf("%s (%s)", e.LongMessage, e.Code) }

// NotFound is Clerk's 404 for a resource ("user", "organization") of this id.
func NotFound(what, id string) *Error {
	return &Error{
		Status: http.StatusNotFound, Code: "resource_not_found", Message: "not found",
		LongMessage: fmt.Sprintf("No %s was found with id %s.", what, id),
	}
}

// Missing is Clerk's 422 for a parameter that has to be given.
func Missing(param string) *Error {
	return paramError("form_param_missing", param, "is missing", param+" must be included.")
}

// Invalid is Clerk's 422 for a parameter of the wrong form; why completes
// "PARAM must be …".
func Invalid(param, why string) *Error {
	return paramError("form_param_format_invalid", param, "is invalid", fmt.Sprintf("%s must be %s.", param, why))
}

// InvalidValue is Clerk's 422 for a parameter whose value is none of the allowed.
func InvalidValue(param, value string) *Error {
	return paramError("form_param_value_invalid", param, "is invalid", fmt.Sprintf("%s can't be %q.", param, value))
}

func taken(param, what string) *Error {
	text := fmt.Sprintf("That %s is taken. Please try another.", what)
	return paramError("form_identifier_exists", param, text, text)
}

func tooLarge(param string) *Error {
	return paramError("form_param_exceeds_allowed_size", param, "exceeds allowed size",
		fmt.Sprintf("%s exceeds the allowed size of %d bytes.", param, MaxMetadata))
}

func paramError(code, param, message, long string) *Error {
	return &Error{
		Status: http.StatusUnprocessableEntity, Code: code, Message: message, LongMessage: long,
		Meta: map[string]any{"param_name": param},
	}
}

func refused(status int, code, text string) *Error {
	return &Error{Status: status, Code: code, Message: text, LongMessage: text}
}
