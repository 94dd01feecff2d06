# %% [markdown]
# # Certify
#
# Some text with $x^2$.

# %%
import numpy as np
print(np.arange(3))
