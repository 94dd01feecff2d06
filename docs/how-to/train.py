"""Train a small network with Adam in mini-batches, and save its weights before and after."""

import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits

torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data[:100] / 16, dtype=torch.float32)
y = torch.tensor(1 - 2 * (digits.target[:100] % 2), dtype=torch.float32)[:, None]

net = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.GELU(), torch.nn.Linear(128, 1))
save_file(net.state_dict(), "start.safetensors")
epochs = 1000
adam = torch.optim.Adam(net.parameters(), lr=3e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, epochs)
for _ in range(epochs):
    for rows in torch.randperm(100).split(20):
        adam.zero_grad()
        torch.nn.functional.mse_loss(net(x[rows]), y[rows]).backward()
        adam.step()
    schedule.step()
save_file(net.state_dict(), "trained.safetensors")
