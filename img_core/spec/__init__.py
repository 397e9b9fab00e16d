"""What a plugin is: errors, values, contracts and hook specifications. Imports nothing else of ours."""
