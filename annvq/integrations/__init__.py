"""annvq under the interfaces of other libraries: one module per ecosystem, which needs the extra of the same name.

Nothing in annvq imports these modules, and each imports only its own ecosystem.
"""
