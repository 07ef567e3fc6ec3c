"""The command line: each verb parses, calls and prints, and has a file of its own."""
