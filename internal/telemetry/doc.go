// Package telemetry is what every process has to be watched by: a logger,
// health checks, and a metrics registry with the basics. Each package defines
// its own metrics and registers them in the registry it is given.
package telemetry
