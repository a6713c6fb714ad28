"""What the IoT Edge daemon does: identities of modules, tokens, certificates, what they are started with."""
