"""OpenTelemetry traces of builds."""
