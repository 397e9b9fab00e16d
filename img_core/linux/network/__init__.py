"""Networks of steps: what a user may choose, and a private network that an ordinary user can have.

Empty on purpose: processes of the zygote import only the helpers.
"""
